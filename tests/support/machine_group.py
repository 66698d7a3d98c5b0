# SPDX-License-Identifier: Apache-2.0
"""Which tests share this machine, and the pytest-xdist scheduler that runs those in one worker.

The mark `xdist_group` does nothing with pytest 9.2: pytest-xdist 3.8 writes it into a field that
pytest no longer has, and says nothing (pytest-xdist, issue 1386).  So the group is found by the
node ID of a test, which xdist passes to the scheduler.
"""

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

MACHINE = "machine"
_FOLDER = "tests/real/"
_PARAMETER = "[containerd"  # the real runtime among those of tests/contract
# These files start processes only, with files and ports of their own, or share a fixture that takes
# seconds to make: each is a group of its own.
_FILES = frozenset(
    (
        "tests/real/test_crash.py",
        "tests/real/test_forgery.py",
        "tests/real/test_install.py",
        "tests/real/test_ssh_keygen.py",
        "tests/real/test_ssh_keygen_mutants.py",
        "tests/test_wheel.py",
        "tests/test_worlds.py",
    )
)


def group_of(node_id: str) -> str:
    """Return the name of the group that a test belongs to; its own node ID when to none.

    The group `MACHINE` has the tests that start a real runtime, a namespace, a unit or a mount.
    """
    file = node_id.partition("::")[0]
    if file in _FILES:
        return file
    return MACHINE if file.startswith(_FOLDER) or _PARAMETER in node_id else node_id


class MachineGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Send the tests of a group to one worker, and each other test to any worker.

    xdist starts with the largest group.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
