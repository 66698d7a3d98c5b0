# SPDX-License-Identifier: Apache-2.0
"""Stories: end-to-end runs of breakglass on the lab's machines.

    python -m scenarios.demo       stop, hold and release, on simulated nodes or a real containerd
    python -m scenarios.incident   the hold on a real Kubernetes, during an outage
    python -m scenarios.guest      the hold on cgroup v2 with systemd, in a virtual machine

A story uses breakglass as operators do: it runs the two programs, from bundles that `breakglass`
wrote.  `stage` prints, measures and ends every story; `bastion` runs the command line as a person,
in stories and in tests; `loopback` runs agents on this machine.

Nothing in this package is installed.  `breakglass` and `lab` never import it, and it never imports
`breakglass.agent` or tests.
"""
