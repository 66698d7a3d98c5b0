# SPDX-License-Identifier: Apache-2.0
"""How a story ends, whatever becomes of it: one last line, and an exit status that agrees."""

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
    """Undo what a story changes of its process."""
    monkeypatch.setenv("NO_COLOR", "1")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def ending(error: Exception) -> Callable[[Stage], str]:
    """Return a story that ends so."""

    def play(_: Stage) -> str:
        raise error

    return play


def test_a_story_that_went_well_sums_up_in_its_last_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its name, its figures, the seconds of the whole; exit 0."""

    def play(stage: Stage) -> str:
        stage.act("An act")
        stage.say("a line")
        stage.quote("said\nby a program")
        return "3 nodes"

    assert perform("demo", play) == 0
    told = capsys.readouterr()
    assert told.out.startswith("\n== An act\na line\n  said\n  by a program\n")
    assert re.fullmatch(r"demo ok: 3 nodes, \d+\.\d s in all", told.out.splitlines()[-1])
    assert told.err == ""


def test_a_timed_story_says_when(capsys: pytest.CaptureFixture[str]) -> None:
    """What a program said stands below the line's text."""
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
def test_what_went_wrong_is_the_last_line(
    error: Exception, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1 for what is not as it should be, 2 for what cannot be played here."""
    assert perform("demo", ending(error), failures=(KeyError,)) == status
    assert capsys.readouterr() == ("", f"{line}\n")


def test_a_mistake_in_a_story_is_not_a_failure_of_what_it_tells() -> None:
    """It shows its traceback."""
    with pytest.raises(ZeroDivisionError):
        perform("demo", ending(ZeroDivisionError()))


def test_a_terminated_story_leaves_by_the_usual_way_out() -> None:
    """SIGTERM runs every `finally`: nothing that it started stays behind."""
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
    """The first answer that is true; after the limit the story has failed."""
    answers = iter((0, 0, 7))
    assert Stage().wait_until("seven", lambda: next(answers), 10.0) == 7
    with pytest.raises(StoryFailed, match="expected seven within 0 s, got none"):
        Stage().wait_until("seven", lambda: 0, 0.0)
    require(1, "not raised")


def test_another_exit_status_than_expected_ends_the_story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was run and said is on the stage, in short paths."""

    def program(arguments: object) -> Ran:
        return Ran(exit=3, out=f"{arguments}\n", err=f"{tmp_path}/f: refused\n")

    bastion = Bastion(tmp_path, program=program, stage=Stage())
    with pytest.raises(StoryFailed, match="expected exit 0 of breakglass verify, got 3"):
        bastion.breakglass("verify", tmp_path / "f")
    shown = capsys.readouterr().out.splitlines()
    assert (shown[0], shown[-1]) == ("$ breakglass verify f", "  f: refused")
    assert bastion.breakglass("verify", "f", expect=(0, 3), show=False).startswith("['--home'")
    assert bastion.approve("f", "ana").exit == 3
    with pytest.raises(StoryFailed, match="expected an approval of ana, got 3"):
        bastion.add_approval("f", "ana")


def test_a_bundle_without_one_of_the_paths_is_no_bundle(tmp_path: Path) -> None:
    """An agent of a story must never use the paths of a real node."""
    config = tmp_path / "agent.toml"
    config.write_text('socket = "/run/breakglass/agent.sock"\n')
    with pytest.raises(StoryFailed, match="expected one directory in"):
        point(config, state=tmp_path / "state", runtime=tmp_path / "cri.sock")
