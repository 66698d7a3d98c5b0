# SPDX-License-Identifier: Apache-2.0
"""Drafts: a request becomes a command; an empty target or a wildcard is refused (P8)."""

from typing import Any

import pytest

from breakglass.core.command import Command, Mode, TrustPin, Verb, parse_command, render_command
from breakglass.core.draft import DraftRequest, draft_command
from breakglass.errors import InputError, Malformed, UsageError
from tests.support.organisation import NOW

ID = "019aa1f3-0000-7000-8000-0123456789ab"
PIN = TrustPin(version=1, sha256="ab" * 32)


def draft(**asked: Any) -> Command:  # noqa: ANN401 - any field
    """Return the draft of a stop of telemetry on prod-a, with some fields changed."""
    usual: dict[str, Any] = {
        "verb": Verb.STOP,
        "workload": "monitoring/telemetry",
        "clusters": ("prod-a",),
        "reason": "telemetry floods the API servers",
        "requester": "olga",
        "max_nodes": 3,
    }
    one = DraftRequest(**{**usual, **asked})
    return draft_command(one, domain="example", trust=PIN, now=NOW, entropy=bytes(10))


def refused(**asked: Any) -> InputError:  # noqa: ANN401 - any field
    """Return the error for a request."""
    with pytest.raises(InputError) as refusal:
        draft(**asked)
    return refusal.value


def test_a_draft_is_a_command() -> None:
    """Parsing a draft's text returns the same command."""
    command = draft(workload="monitoring/telemetry@5d4f8c", mode=Mode.DRILL)
    assert parse_command(render_command(command)) == command
    assert (command.action.revision, command.mode) == ("5d4f8c", Mode.DRILL)
    assert command.summary.startswith("DRILL: STOP monitoring/telemetry, revision 5d4f8c")


def test_the_window_begins_now() -> None:
    """A draft is valid from the clock reading on, for the requested time."""
    command = draft(valid="30m")
    assert command.created == command.not_before == NOW
    assert (command.not_after - NOW).total_seconds() == 1800


def test_without_nodes_every_node_of_the_named_clusters_is_meant() -> None:
    """A draft without nodes and pools says every node in its text."""
    assert draft().targets.nodes == ("*",)
    assert draft(pools=("gpu",)).targets.nodes == ()
    assert draft(nodes=("web-*",), pools=("gpu",)).targets.nodes == ("web-*",)


@pytest.mark.parametrize(
    "empty",
    [
        {"workload": ""},
        {"clusters": ()},
        {"clusters": ("",)},
        {"nodes": ("",)},
        {"pools": ("gpu", "")},
        {"excepted": ("*",)},
    ],
)
def test_p8_an_empty_target_is_not_drafted(empty: dict[str, Any]) -> None:
    """An empty target is refused and never means all."""
    assert refused(**empty).stable_code == "empty-target"


@pytest.mark.parametrize(
    "wild",
    [
        {"workload": "monitoring/*"},
        {"workload": "*/telemetry"},
        {"workload": "monitoring/telemetr?"},
        {"clusters": ("prod-*",)},
        {"clusters": ("prod-a", "*")},
        {"pools": ("*",)},
        {"nodes": ("*",)},
        {"nodes": ("web-1", "?*")},
    ],
)
def test_p8_a_wild_target_is_not_drafted(wild: dict[str, Any]) -> None:
    """A wildcard is refused in workloads, clusters and pools, and alone as a node pattern."""
    assert refused(**wild).stable_code == "wild-target"


def test_the_hint_says_how_to_mean_every_node() -> None:
    """The hint for a lone star says to leave out --node."""
    assert "leave out --node" in refused(nodes=("*",)).hint


def test_a_draft_needs_a_reason() -> None:
    """A draft without a reason is refused."""
    assert isinstance(refused(reason=" "), UsageError)


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.EVICT])
def test_what_stops_also_holds(verb: Verb) -> None:
    """A stop and an evict hold for two hours by default; 0s holds nothing."""
    image = f"sha256:{'1f' * 32}"
    action = draft(verb=verb, image=image, grace="5s").action
    assert (action.verb, action.hold_s, action.grace_s, action.image) == (verb, 7200, 5, image)
    assert draft(verb=verb, hold="0s").summary.endswith("no hold")


def test_a_release_is_drafted_without_hold_and_grace() -> None:
    """A release ends every hold of the workload, or that of one command."""
    action = draft(verb=Verb.RELEASE).action
    assert (action.verb, action.hold_s, action.grace_s) == (Verb.RELEASE, 0, 0)
    assert draft(verb=Verb.RELEASE, holds_of=ID).action.holds_of == ID


def test_an_extend_says_how_long() -> None:
    """An extend needs a time above 0s; the hint says to draft a release instead."""
    action = draft(verb=Verb.EXTEND, hold="4h", holds_of=ID).action
    assert (action.verb, action.hold_s, action.holds_of) == (Verb.EXTEND, 14_400, ID)
    assert "release" in refused(verb=Verb.EXTEND, hold="0s").hint


def test_a_draft_is_valid_for_some_time() -> None:
    """An empty window and one beyond its bound are refused."""
    assert isinstance(refused(valid="0s"), UsageError)
    assert isinstance(refused(valid="25h"), Malformed)


@pytest.mark.parametrize(
    "bad",
    [
        {"workload": "telemetry"},
        {"workload": "monitoring/telemetry@"},
        {"workload": "monitoring/telemetry@zz"},
        {"clusters": ("Prod",)},
        {"nodes": ("web-[1-20]",)},
        {"grace": "forever"},
        {"hold": "169h"},
        {"image": "telemetry:1.2"},
        {"verb": Verb.RELEASE, "holds_of": "INC-1211"},
        {"max_nodes": 0},
        {"requester": "olga b"},
        {"reason": "tab\there"},
    ],
)
def test_a_draft_has_the_rules_of_the_text(bad: dict[str, Any]) -> None:
    """A value that the parser would refuse is not drafted."""
    assert isinstance(refused(**bad), Malformed)
