# SPDX-License-Identifier: Apache-2.0
"""What all tests share: one place at the machine, printed worlds, and no process left behind."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]

from tests.support import worlds
from tests.support.machine_group import MachineGroup

_THREADS = Path(f"/proc/{os.getpid()}/task")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> MachineGroup | None:
    """Run the tests that share this machine one after the other (`--dist loadgroup`)."""
    if config.getoption("dist") != "loadgroup":
        return None
    return MachineGroup(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Print the simulated worlds of a test below its failure."""
    report = yield
    if report.failed:
        report.sections.extend(worlds.sections())
    if report.when == "teardown":
        worlds.forget()
    return report


def _living_children() -> set[int]:
    """Return the pids of running direct children of this process, without zombies."""
    lists = (_read(thread / "children") for thread in _THREADS.iterdir())
    return {int(pid) for text in lists for pid in text.split() if _runs(pid)}


def _runs(pid: str) -> bool:
    # proc(5): the state is the first field after the name, which is in parentheses.
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1] not in ([], ["Z"])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # the process ended meanwhile
        return ""


@pytest.fixture(autouse=True, scope="session")
def _no_process_is_left() -> Iterator[None]:
    """Fail if a process is left, because it would keep ports, mounts and pods of this machine.

    This fixture is set up first and torn down last, so that shared runtimes have ended by then.
    """
    before = _living_children()
    yield
    left = {pid: _read(Path(f"/proc/{pid}/cmdline")) for pid in _living_children() - before}
    named = [f"{pid} {line.replace(chr(0), ' ').strip()[:200]}" for pid, line in left.items()]
    assert not named, f"expected no process left, got {named}"
