# SPDX-License-Identifier: Apache-2.0
"""Drafting each verb: what its options mean, and what `draft` prints about the result."""

from pathlib import Path

import pytest

from breakglass.core.command import Action, parse_command
from breakglass.core.signed_file import parse_signed_file
from scenarios.bastion import Bastion, Ran

ID = "01a1fc9c-8d29-7572-aaf2-402d4871c76c"
IMAGE = f"sha256:{'1f' * 32}"


def draft(bastion: Bastion, verb: str, *extra: str, workload: str = "monitoring/telemetry") -> Ran:
    """Draft a command of a verb into the file "f"."""
    return bastion.run(
        "draft", verb, workload, "--cluster", "prod-a", "--reason", "it floods",
        "--requester", "luc", *extra, "-o", bastion.path("f"),
    )  # fmt: skip


def drafted(bastion: Bastion, verb: str, *extra: str) -> Action:
    """Draft a command, which must succeed, and return its action."""
    ran = draft(bastion, verb, *extra)
    assert ran.exit == 0, ran.err
    return parse_command(parse_signed_file(Path(bastion.path("f")).read_bytes()).text).action


@pytest.mark.parametrize("verb", ["stop", "evict"])
def test_what_stops_holds_unless_told_otherwise(bastion: Bastion, verb: str) -> None:
    """Two hours without --hold, as long as --hold says, and no hold with 0s."""
    action = drafted(bastion, verb)
    assert (action.verb, action.hold_s, action.grace_s) == (verb, 7200, 30)
    action = drafted(bastion, verb, "--hold", "90m", "--grace", "5s", "--image", IMAGE)
    assert (action.hold_s, action.grace_s, action.image) == (5400, 5, IMAGE)
    assert drafted(bastion, verb, "--hold", "0s").hold_s == 0


def test_a_hold_that_nobody_asked_for_is_told_with_its_end(bastion: Bastion) -> None:
    """How long it lasts, how to avoid it, and the arguments that end it on the same nodes."""
    ran = draft(bastion, "stop", "--node", "n[1-3]", workload="monitoring/telemetry@5d4f8c")
    assert "it keeps them down for 2h, the default; " in ran.err
    assert "--hold 0s" in ran.err
    wanted = "draft release monitoring/telemetry@5d4f8c --cluster prod-a --node 'n[1-3]' --reason"
    assert wanted in ran.err
    asked = draft(bastion, "stop", "--hold", "1h").err
    assert "it keeps them down for 1h\n" in asked
    assert "starts these pods again" in draft(bastion, "stop", "--hold", "0s").err
    assert "keeps" not in draft(bastion, "stop", "--mode", "dry-run").err


def test_a_release_names_the_workload_or_one_command(bastion: Bastion) -> None:
    """It has no hold and no grace, and its cap is the most pods of a node, not ten pods."""
    action = drafted(bastion, "release")
    assert (action.verb, action.hold_s, action.grace_s, action.holds_of) == ("release", 0, 0, "")
    assert drafted(bastion, "release", "--command", ID).holds_of == ID
    text = parse_signed_file(Path(bastion.path("f")).read_bytes()).text
    assert parse_command(text).caps.max_pods_per_node == 1000
    drafted(bastion, "release", "--max-pods", "7")
    text = parse_signed_file(Path(bastion.path("f")).read_bytes()).text
    assert parse_command(text).caps.max_pods_per_node == 7


def test_an_extend_says_how_long_from_then_on(bastion: Bastion) -> None:
    """The default of a hold, or as long as --hold says."""
    assert drafted(bastion, "extend").hold_s == 7200
    action = drafted(bastion, "extend", "--hold", "4h", "--command", ID)
    assert (action.verb, action.hold_s, action.holds_of) == ("extend", 14_400, ID)


@pytest.mark.parametrize(
    ("verb", "foreign"),
    [
        ("stop", ("--command",)),
        ("evict", ("--command",)),
        ("release", ("--hold", "--grace", "--image")),
        ("extend", ("--grace", "--image")),
    ],
)
def test_a_verb_has_no_option_that_means_nothing_for_it(
    bastion: Bastion, verb: str, foreign: tuple[str, ...]
) -> None:
    """Its help does not name it, and giving it is an error."""
    helped = bastion.run("draft", verb, "--help").out
    for option in foreign:
        assert option not in helped
        assert "[usage]" in draft(bastion, verb, option, "1h").err


@pytest.mark.parametrize("verb", ["stop", "evict", "release", "extend"])
def test_every_verb_is_approved_like_any_other(bastion: Bastion, verb: str) -> None:
    """Show, approve and verify work on a command of each verb, under its policy."""
    drafted(bastion, verb)
    file = bastion.path("f")
    assert bastion.json("show", file).json["meaning"]
    for person in ("ana", "bo"):
        ran = bastion.approve(file, person)
        assert (ran.exit, "  - it " in ran.err) == (0, True)
    assert bastion.json("verify", file).json["verdict"] == "approved"


@pytest.mark.parametrize("wrong", [("--hold", "2d"), ("--grace", "5"), ("--max-pods", "0")])
def test_what_was_typed_wrong_is_not_anothers_file(
    bastion: Bastion, wrong: tuple[str, ...]
) -> None:
    """The hint is about the command line, not about another person's file."""
    ran = draft(bastion, "stop", *wrong)
    assert (ran.exit, "hint: see `breakglass draft stop --help`" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("verb", "option"), [("release", "--command"), ("extend", "--command"), ("stop", "--image")]
)
def test_an_empty_word_never_means_all(bastion: Bastion, verb: str, option: str) -> None:
    """An unset shell variable must not end every hold, nor stop every image (P8)."""
    ran = draft(bastion, verb, option, "")
    assert (ran.exit, f"leave {option} out to mean all" in ran.err) == (2, True)
    assert not Path(bastion.path("f")).exists()
