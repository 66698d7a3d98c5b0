# SPDX-License-Identifier: Apache-2.0
"""A test that fails in a simulated world prints that world."""

import subprocess
import sys
from pathlib import Path

from tests.support import worlds

ROOT = Path(__file__).parent.parent
FAILING = '''
from pathlib import Path
from tests.support.held_node import HeldNode

async def test_that_fails(tmp_path: Path) -> None:
    """It fails with a held pod."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        assert node.running() == ["nothing that runs"]
'''


def test_the_state_and_the_log_of_a_failed_world_are_printed(tmp_path: Path) -> None:
    """Pods, limits, holds and entries stand below the failure."""
    failing = tmp_path / "test_failing.py"
    failing.write_text(FAILING)
    command = (sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", "-p", "tests.conftest")
    done = subprocess.run(
        (*command, "-p", "no:randomly", "-p", "no:cacheprovider", str(failing)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    for part in ("kubelet's pods:", "monitoring/telemetry-", "descendants=0", "hold ", "Finished("):
        assert part in done.stdout


def test_a_description_is_bounded() -> None:
    """The newest lines are kept, and the number of the others is said."""
    worlds.leave("long", (str(number) for number in range(worlds.MAX_LINES + 7)))
    ((_, text),) = worlds.sections()
    worlds.forget()
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("(7 earlier lines left out)", str(worlds.MAX_LINES + 6))
    assert len(lines) == worlds.MAX_LINES + 1
