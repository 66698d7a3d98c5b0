# SPDX-License-Identifier: Apache-2.0
"""How every story ends: with one last line, and an exit status that agrees with it."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import LabUnavailable
from scenarios.bastion import Bastion, Ran
from scenarios.loopback import point
from scenarios.stage import Stage, StoryFailed, perform, require


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the signal handler and the variable that a story sets in its process."""
    monkeypatch.setenv("NO_COLOR", "1")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def ending(error: Exception) -> Callable[[Stage], str]:
    """Return a story that raises this error."""

    def play(_: Stage) -> str:
        raise error

    return play


def test_a_story_that_went_well_sums_up_in_its_last_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last line has name, figures and total seconds; the exit status is 0."""

    def play(stage: Stage) -> str:
        stage.act("An act")
        stage.say("a line")
        stage.quote("said\nby a program")
        return "3 nodes"

    assert perform("demo", play) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("\n== An act\na line\n  said\n  by a program\n")
    assert re.fullmatch(r"demo ok: 3 nodes, \d+\.\d s in all", printed.out.splitlines()[-1])
    assert printed.err == ""


def test_a_timed_story_prints_the_time_of_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line begins with the elapsed seconds, and a program's output is aligned below it."""
    stage = Stage(timed=True)
    stage.say("a line")
    stage.quote("said")
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[ +\d+\.\d\d s\] a line", first)
    assert second.index("said") == first.index("a line")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (StoryFailed("expected 1, got 2"), 1, "demo failed: expected 1, got 2"),
        (TimeoutError("too late"), 1, "demo failed: too late"),
        (AssertionError(), 1, "demo failed: AssertionError()"),
        (KeyError("more"), 1, "demo failed: 'more'"),
        (LabUnavailable("needs root"), 2, "demo not played: needs root"),
    ],
)
def test_the_last_line_says_what_went_wrong(
    error: Exception, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1 when a check failed, 2 when this machine cannot play the story."""
    assert perform("demo", ending(error), failures=(KeyError,)) == status
    assert capsys.readouterr() == ("", f"{line}\n")


def test_a_mistake_in_a_story_shows_its_traceback() -> None:
    """An exception that no failed check raises is passed on."""
    with pytest.raises(ZeroDivisionError):
        perform("demo", ending(ZeroDivisionError()))


def test_sigterm_runs_every_finally_of_a_story() -> None:
    """So a terminated story ends every process that it started."""
    ended: list[str] = []

    def play(stage: Stage) -> str:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            stage.wait_until("the signal", lambda: False, 10.0)
        finally:
            ended.append("cleaned up")
        return ""

    with pytest.raises(SystemExit) as left:
        perform("demo", play)
    assert (left.value.code, ended) == (128 + signal.SIGTERM, ["cleaned up"])


def test_waiting_returns_the_answer_or_fails() -> None:
    """It returns the first true answer; after the limit it raises `StoryFailed`."""
    answers = iter((0, 0, 7))
    assert Stage().wait_until("seven", lambda: next(answers), 10.0) == 7
    with pytest.raises(StoryFailed, match="timed out after 0 s waiting for seven"):
        Stage().wait_until("seven", lambda: 0, 0.0)
    require(1, "not raised")


def test_another_exit_status_than_expected_ends_the_story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage shows the command and its output, with shortened paths."""

    def program(arguments: object) -> Ran:
        return Ran(exit=3, out=f"{arguments}\n", err=f"{tmp_path}/f: refused\n")

    bastion = Bastion(tmp_path, program=program, stage=Stage())
    with pytest.raises(StoryFailed, match="expected exit 0 of breakglass verify, got 3"):
        bastion.breakglass("verify", tmp_path / "f")
    shown = capsys.readouterr().out.splitlines()
    assert (shown[0], shown[-1]) == ("$ breakglass verify f", "  f: refused")
    assert bastion.breakglass("verify", "f", expect=(0, 3), show=False).startswith("['--home'")
    assert bastion.approve("f", "ana").exit == 3
    with pytest.raises(StoryFailed, match="approve by ana failed with exit 3"):
        bastion.add_approval("f", "ana")


def test_a_bundle_without_one_of_the_paths_is_refused(tmp_path: Path) -> None:
    """A story's agent must never use the paths of a real node."""
    config = tmp_path / "agent.toml"
    config.write_text('socket = "/run/breakglass/agent.sock"\n')
    with pytest.raises(StoryFailed, match="expected one directory in"):
        point(config, state=tmp_path / "state", runtime=tmp_path / "cri.sock")
