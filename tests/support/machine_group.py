# SPDX-License-Identifier: Apache-2.0
"""Which tests share this machine, and the pytest-xdist scheduler that runs those in one worker.

The mark `xdist_group` does nothing with pytest 9.2: pytest-xdist 3.8 writes it into a field that
pytest no longer has, and says nothing (pytest-xdist, issue 1386).  So the group is found by the
node ID of a test, which xdist passes to the scheduler.
"""

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

GROUP = "machine"
_FOLDER = "tests/real/"
_PARAMETER = "[containerd"  # the real runtime among those of tests/contract


def shares_machine(node_id: str) -> bool:
    """Return whether a test starts a real runtime, a namespace, a unit or a mount."""
    return node_id.startswith(_FOLDER) or _PARAMETER in node_id


class MachineGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Send the tests that share the machine to one worker, and each other test to any worker.

    The group is the largest unit of work, so xdist starts with it.
    """

    def _split_scope(self, nodeid: str) -> str:
        return GROUP if shares_machine(nodeid) else nodeid
