# SPDX-License-Identifier: Apache-2.0
"""`make test` runs the tests that share this machine in one worker, and the others beside it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine_group import _FILES, MACHINE, group_of

ROOT = Path(__file__).parent.parent
TESTS = 8
# Each test leaves its own name and its worker's in the file `seen`.
NAMED = f"""
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_it(number: int, request: pytest.FixtureRequest) -> None:
    with Path("seen").open("a") as seen:
        seen.write(f"{{request.node.nodeid}} {{os.environ['PYTEST_XDIST_WORKER']}}\\n")
"""


def test_tests_of_the_machine_run_in_one_worker(tmp_path: Path) -> None:
    """Two files of tests/real share a worker; the tests of another file start in the other one."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name in ("tests/real/test_a.py", "tests/real/test_b.py", "tests/core/test_c.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(NAMED)
    command = (
        *(sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "tests.conftest"),
        *("-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider", "tests"),
    )
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(seen) == 3 * TESTS
    (shared,) = {worker for test, worker in seen if test.startswith("tests/real/")}
    assert {worker for test, worker in seen if test.startswith("tests/core/")} - {shared}


@pytest.mark.parametrize(
    ("node_id", "group"),
    [
        ("tests/real/test_hold.py::test_a[runc]", MACHINE),
        ("tests/contract/test_runtime.py::test_a[containerd-12]", MACHINE),
        ("tests/contract/test_runtime.py::test_a[sim-2.1]", ""),
        ("tests/lab/test_kubernetes.py::test_a", ""),
        ("tests/real/test_crash.py::test_a[x]", "tests/real/test_crash.py"),
    ],
)
def test_a_group_is_found_by_folder_file_and_parameter(node_id: str, group: str) -> None:
    """The simulated runtimes of the contract share nothing."""
    assert group_of(node_id) == (group or node_id)


def test_every_file_with_a_group_of_its_own_exists() -> None:
    """A file that is gone takes its line along."""
    assert [file for file in _FILES if not (ROOT / file).exists()] == []
