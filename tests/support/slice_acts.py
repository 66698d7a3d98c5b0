# SPDX-License-Identifier: Apache-2.0
"""What the kernel under test does with one pod in a slice, on a machine with a real systemd.

    python3 slice_acts.py ACT UID [TREES]

It runs inside that machine, where only Python's own library is, and prints one line of JSON.  TREES
hides all trees of control groups but those named, separated by commas ("unified" is cgroup2).
"""

import json
import sys
import tempfile
from pathlib import Path

from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.port import Kernel, PodGroup
from breakglass.core.gates import Gate, Oci
from breakglass.errors import GateFailed

_MOUNTINFO = Path("/proc/self/mountinfo")


class Acts:
    """One pod on this machine."""

    def __init__(self, kernel: Kernel, group: PodGroup) -> None:
        self._kernel = kernel
        self._group = group
        self._limits = kernel.limits.current(group, Oci.RUNC)

    def show(self) -> object:
        """Return what is there, and what holds it."""
        return {
            "path": self._group.path,
            "layout": self._group.layout.value,
            "known": self._group in self._kernel.groups.pod_groups(),
            "born": any(
                place.parent in self._kernel.groups.parents() for _, place in self._group.trees
            ),
            "limits": [[limit.kind.value, limit.old] for limit in self._limits],
            "standing": self._kernel.limits.standing(self._group, self._limits, Oci.RUNC).value,
            "changed": [
                limit.kind.value for limit in self._kernel.limits.changed(self._group, self._limits)
            ],
            "leaves": {
                leaf.container_id: self._kernel.groups.pids(leaf)
                for leaf in self._kernel.groups.leaves(self._group)
            },
        }

    def gate(self) -> object:
        """Set all limits."""
        for limit in self._limits:
            self._kernel.limits.set_limit(self._group, limit)
        return self.show()

    def belt(self) -> object:
        """Set the limits on tasks alone."""
        for limit in self._limits:
            if limit.kind is not Gate.DESCENDANTS:
                self._kernel.limits.set_limit(self._group, limit)
        return self.show()

    def lift(self) -> object:
        """Put all back."""
        for limit in reversed(self._limits):
            self._kernel.limits.lift(self._group, limit)
        return self.show()

    def kill(self) -> object:
        """Kill every container."""
        for leaf in self._kernel.groups.leaves(self._group):
            self._kernel.killer.kill(leaf)
        return self.show()

    def reset(self) -> object:
        """Reset the failed scopes."""
        return self._kernel.limits.reset_failed(self._group)


def main(act: str, uid: str, trees: str = "") -> None:
    """Carry out one act."""
    lines = _MOUNTINFO.read_text().splitlines(keepends=True)
    shown = [line for line in lines if not trees or _tree_of(line) in trees.split(",")]
    with tempfile.NamedTemporaryFile("w") as mountinfo:
        mountinfo.writelines(shown)
        mountinfo.flush()
        kernel = host_kernel(mountinfo=Path(mountinfo.name))
        group = kernel.groups.pod_group(uid)
    if group is None:
        print(json.dumps(None))
        return
    try:
        print(json.dumps(getattr(Acts(kernel, group), act)()))
    except GateFailed as error:
        print(json.dumps(error.stable_code))


def _tree_of(line: str) -> str:
    return Path(line.split()[4]).name


if __name__ == "__main__":
    main(*sys.argv[1:])
