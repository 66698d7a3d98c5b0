# SPDX-License-Identifier: Apache-2.0
"""Machines to run breakglass on, and nothing left of them afterwards.

`containerd` with pods as kubelet shapes them (`pods`); two hosts on one wire (`netns`); a machine
with its own systemd (`nspawn`); a virtual machine (`guest`); a whole Kubernetes (`kubernetes`);
simulated nodes behind processes (`sim`).  `nodes` is one small node over a simulated or a real
runtime.

For tests, benchmarks and stories: nothing under `breakglass/` imports this package, it imports no
story, and it is in no wheel.  Everything started here is ended here, by the process ids, the
directories and the cgroups it made itself; a containerd, a cgroup or a network namespace that was
there before is never touched.
"""


class LabUnavailable(Exception):
    """What that part of the lab needs is missing on this machine; the message says what."""
