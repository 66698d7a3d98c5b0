# SPDX-License-Identifier: Apache-2.0
"""Machines to run breakglass on, which clean up after themselves.

`containerd` is a real containerd and `pods` makes pods in it as kubelet does; `netns` is two hosts
joined by one cable; `nspawn` is a container with its own systemd; `guest` is a virtual machine;
`kubernetes` is a whole cluster; `sim` runs simulated nodes as processes.  `nodes` is one small node
over a simulated or a real runtime.

Tests, benchmarks and scenarios use this package.  Nothing under `breakglass/` imports it, it
imports no scenario, and no wheel contains it.  The lab ends every process and removes every
directory and cgroup that it made, and no other: it never touches a containerd, a cgroup or a
network namespace that existed before.
"""


class LabUnavailable(Exception):
    """This machine lacks something that a part of the lab needs; the message names it."""
