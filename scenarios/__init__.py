# SPDX-License-Identifier: Apache-2.0
"""Stories told on the lab's machines: what people and nodes go through, from end to end.

    python -m scenarios.demo       the main job, on simulated nodes or a real containerd
    python -m scenarios.incident   the hold on a real Kubernetes, through an outage
    python -m scenarios.guest      the hold on cgroup v2 with systemd, in a virtual machine

A story sees breakglass as people do: by its two programs, run from bundles that `breakglass` wrote.
`stage` is how every story prints, measures, sums up and ends; `bastion` is how the command line is
run as a person, in stories and in tests; `loopback` runs agents on this machine.

Nothing in here is installed anywhere.  `breakglass` and `lab` never import it; it never imports
`breakglass.agent` or tests.
"""
