# SPDX-License-Identifier: Apache-2.0
"""The incident without a Kubernetes: when it cannot be played, and what counts as code that ran.

`make incident` plays the story itself.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from scenarios.incident import __main__ as incident
from scenarios.incident.watch import TICK_S, Watch
from tests.support.kubernetes import node_of_files, old_go

ROOT = Path(__file__).parents[2]
HELD, OTHER = "0a0a", "0b0b"


def test_an_incident_that_cannot_be_played_is_no_failure_and_no_success(
    tmp_path: Path,
) -> None:
    """The exit status is 2, and stderr has the reason."""
    done = subprocess.run(
        [sys.executable, "-m", "scenarios.incident"],
        env=old_go(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "incident not played: " in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--minutes", "-1"], ["--minutes", "61"], ["--minutes", "soon"], ["--backoff", "0"], ["all"]],
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    """The exit status is 2, before anything is started."""
    with pytest.raises(SystemExit) as ended:
        incident.main(arguments)
    assert ended.value.code == 2


def test_code_that_runs_after_its_pod_was_stopped_is_counted(tmp_path: Path) -> None:
    """A restart before the stop was reported as done counts; another revision's lines do not."""
    node = node_of_files(tmp_path)
    written = f"1.0 tick {HELD}\n2.0 term {HELD}\n2.5 start {HELD}\n4.0 tick {OTHER}\n"
    (node.folder / "lib/witness/telemetry").write_text(written)
    watch = Watch(nodes=[node], approving=0.5, since=3.0, spared=frozenset({OTHER}))
    assert [line.at for line in watch.lines(node)] == [2.5]
    assert watch.leaked_ms() == TICK_S * 1000


def test_without_a_term_line_the_stop_begins_when_it_was_reported(tmp_path: Path) -> None:
    """A killed witness writes no "term" line, so its lines until that time do not count."""
    node = node_of_files(tmp_path)
    (node.folder / "lib/witness/telemetry").write_text(f"1.0 tick {HELD}\n2.9 tick {HELD}\n")
    watch = Watch(nodes=[node], approving=0.5, since=3.0)
    assert watch.lines(node) == []
