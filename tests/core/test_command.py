# SPDX-License-Identifier: Apache-2.0
"""Each command has exactly one text, and nothing outside it changes what happens (P3)."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import bounds, canonical
from breakglass.core.command import Action, Command, Verb, parse_command, render_command
from breakglass.errors import Malformed
from tests.support import properties
from tests.support.organisation import Organisation, edited
from tests.support.properties import property_test

IMAGE = f"sha256:{'1f' * 32}"
ID = "019aa1f3-0000-7000-8000-0123456789ab"


@pytest.fixture(scope="module")
def org() -> Organisation:
    """Return an organisation of three people with a quorum of two."""
    return Organisation("ana bo luc", quorum=2)


def code_of(raw: bytes) -> str:
    """Return the code of the error for a text."""
    with pytest.raises(Malformed) as refusal:
        parse_command(raw)
    return refusal.value.stable_code


def test_a_command_is_read_back(org: Organisation) -> None:
    """Parsing a command's text returns the command, and rendering it returns the text."""
    drafted = org.draft(revision="5d4f8c", pools="gpu", excepted="web-[01-03]", mode="drill")
    text = render_command(drafted)
    assert parse_command(text) == drafted
    assert render_command(parse_command(text)) == text


@property_test
@given(properties.command())
def test_every_command_is_read_back(command: Command) -> None:
    """Parsing any rendered command within the size bound returns the same command."""
    text = render_command(command)
    assert len(text) <= bounds.MAX_COMMAND_BYTES
    assert parse_command(text) == command


@property_test
@given(st.data())
def test_p3_only_one_text_is_read_as_a_command(data: st.DataObject) -> None:
    """A changed text is refused, or it is the canonical text of another command."""
    whole = Organisation("ana bo").command()
    raw = data.draw(properties.broken(whole))
    try:
        command = parse_command(raw)
    except Malformed:
        return
    assert render_command(command) == raw


@property_test
@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_malformed(raw: bytes) -> None:
    """Parsing any bytes returns a command or raises Malformed."""
    with pytest.raises(Malformed):
        parse_command(raw)


def test_p3_the_summary_is_what_the_command_does(org: Organisation) -> None:
    """A summary that leaves out a part of the command is refused."""
    text = org.command(max_nodes=3)
    assert code_of(text.replace(b"at most 3 nodes", b"at most 1 node")) == "summary-mismatch"
    assert code_of(edited(text, "limits.max_nodes", 4)) == "summary-mismatch"


@pytest.mark.parametrize(
    ("overrides", "summary"),
    [
        (
            {},
            (
                "STOP monitoring/telemetry, any revision, on every node of prod-a:"
                " at most 3 nodes, 10 pods each, grace 30s, no hold"
            ),
        ),
        (
            {"mode": "drill", "revision": "5d4f8c", "max_nodes": 1, "max_pods_per_node": 1},
            (
                "DRILL: STOP monitoring/telemetry, revision 5d4f8c, on every node of prod-a:"
                " at most 1 node, 1 pod each, grace 30s, no hold"
            ),
        ),
        (
            {"mode": "dry-run", "nodes": "web-* db-?", "clusters": "prod-a prod-b", "hold_s": 7200},
            (
                "DRY RUN: STOP monitoring/telemetry, any revision, on nodes web-*, db-? of"
                " prod-a, prod-b: at most 3 nodes, 10 pods each, grace 30s, hold 2h"
            ),
        ),
        (
            {"nodes": "", "pools": "gpu", "excepted": "web-1", "grace_s": 0},
            (
                "STOP monitoring/telemetry, any revision, on pools gpu of prod-a except nodes"
                " web-1: at most 3 nodes, 10 pods each, grace 0s, no hold"
            ),
        ),
        (
            {"nodes": "web-*", "pools": "gpu", "clusters": "a b c d e"},
            (
                "STOP monitoring/telemetry, any revision, on nodes web-* and pools gpu of"
                " a, b, c and 2 more: at most 3 nodes, 10 pods each, grace 30s, no hold"
            ),
        ),
        (
            {"nodes": "* web-1", "pools": "gpu", "clusters": "a b c d"},
            (
                "STOP monitoring/telemetry, any revision, on every node of a, b, c, d:"
                " at most 3 nodes, 10 pods each, grace 30s, no hold"
            ),
        ),
        (
            {"verb": "evict", "image": IMAGE, "hold_s": 3600},
            (
                f"EVICT monitoring/telemetry, any revision, image {IMAGE}, on every node of"
                " prod-a: at most 3 nodes, 10 pods each, grace 30s, hold 1h"
            ),
        ),
        (
            {"verb": "release"},
            (
                "RELEASE monitoring/telemetry, any revision, on every node of prod-a:"
                " at most 3 nodes, 10 pods each, every hold ends"
            ),
        ),
        (
            {"verb": "release", "holds_of": ID, "mode": "drill"},
            (
                "DRILL: RELEASE monitoring/telemetry, any revision, on every node of prod-a:"
                f" at most 3 nodes, 10 pods each, the hold of {ID} ends"
            ),
        ),
        (
            {"verb": "extend", "revision": "5d4f8c", "hold_s": 5400},
            (
                "EXTEND monitoring/telemetry, revision 5d4f8c, on every node of prod-a:"
                " at most 3 nodes, 10 pods each, every hold lasts 90m from then on"
            ),
        ),
        (
            {"verb": "extend", "holds_of": ID},
            (
                "EXTEND monitoring/telemetry, any revision, on every node of prod-a:"
                f" at most 3 nodes, 10 pods each, the hold of {ID} lasts 1h from then on"
            ),
        ),
    ],
)
def test_the_summary_in_words(
    org: Organisation, overrides: dict[str, str | int], summary: str
) -> None:
    """The summary names the verb, the workload, the targets and the caps."""
    assert org.draft(**overrides).summary == summary  # type: ignore[arg-type]


def test_the_longest_summary_fits(org: Organisation) -> None:
    """A command with the longest names and lists is within the size bound."""
    longest = {
        "workload": f"{'n' * 63}/{'.'.join(['w' * 61] * 4)}",
        "clusters": " ".join(f"{place:063d}" for place in range(64)),
        "nodes": " ".join(f"{place:0128d}" for place in range(9)),
        "pools": " ".join(f"{place:063d}" for place in range(9)),
        "excepted": " ".join(f"{place:0128d}" for place in range(9)),
    }
    for of_verb in ({"verb": "evict", "image": IMAGE}, {"verb": "extend", "holds_of": ID}):
        text = org.command(**longest, **of_verb)
        assert render_command(parse_command(text)) == text


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        ("type", "breakglass-trust-v1", "wrong-type"),
        ("summary", 7, "malformed"),
        ("id", "0193-7", "malformed"),
        ("domain", "", "malformed"),
        ("trust.version", 0, "malformed"),
        ("trust.sha256", "00", "malformed"),
        ("trust.extra", 1, "unknown-key"),
        ("action.verb", "release", "missing-key"),
        ("action.verb", "extend", "missing-key"),
        ("action.verb", "explode", "malformed"),
        ("action.workload", "*/telemetry", "malformed"),
        ("action.workload", "monitoring/*", "malformed"),
        ("action.workload", "", "malformed"),
        ("action.revision", "zz", "malformed"),
        ("action.grace", "120s", "malformed"),
        ("action.grace", "2h", "malformed"),
        ("action.hold", "999h", "malformed"),
        ("action.evict", True, "unknown-key"),
        ("action.image", "telemetry:1.2", "malformed"),
        ("action.image", f"sha256:{'AB' * 32}", "malformed"),
        ("action.command", "", "unknown-key"),
        ("targets.clusters", [], "empty-target"),
        ("targets.clusters", ["*"], "malformed"),
        ("targets.clusters", ["prod-a", "prod-a"], "malformed"),
        ("targets.nodes", [], "empty-target"),
        ("targets.nodes", ["**"], "malformed"),
        ("targets.nodes", "*", "malformed"),
        ("targets.pools", ["g*"], "malformed"),
        ("targets.except", ["*"], "empty-target"),
        ("targets.all", True, "unknown-key"),
        ("limits.max_nodes", 0, "malformed"),
        ("limits.max_nodes", True, "malformed"),
        ("limits.max_pods_per_node", 10_000, "malformed"),
        ("limits.force", True, "unknown-key"),
        ("rollout.canary", -1, "malformed"),
        ("rollout.max_parallel", 0, "malformed"),
        ("rollout.max_failures", "1", "malformed"),
        ("rollout.pace", 1, "unknown-key"),
        ("mode", "rehearse", "malformed"),
        ("incident", "x" * 513, "malformed"),
        ("reason", "  ", "malformed"),
        ("requester", "Ana", "malformed"),
        ("created", "2026-11-21 04:00:00Z", "malformed"),
        ("created", "2026-11-21T04:00:01Z", "malformed"),
        ("not_after", "2026-11-21T04:00:00Z", "malformed"),
        ("not_after", "2026-11-22T04:00:01Z", "malformed"),
        ("force", True, "unknown-key"),
    ],
)
def test_a_command_that_is_none(org: Organisation, place: str, value: object, code: str) -> None:
    """A violation of each rule of the format is refused with that rule's code."""
    assert code_of(edited(org.command(), place, value)) == code


@pytest.mark.parametrize(
    ("verb", "place", "value", "code"),
    [
        ("evict", "action.command", ID, "unknown-key"),
        ("evict", "action.verb", "release", "missing-key"),
        ("release", "action.hold", "1h", "unknown-key"),
        ("release", "action.grace", "30s", "unknown-key"),
        ("release", "action.image", IMAGE, "unknown-key"),
        ("release", "action.command", "INC-1211", "malformed"),
        ("release", "action.command", ID.upper(), "malformed"),
        ("release", "action.verb", "extend", "missing-key"),
        ("extend", "action.hold", "0s", "malformed"),
        ("extend", "action.hold", "999h", "malformed"),
        ("extend", "action.grace", "30s", "unknown-key"),
        ("extend", "action.image", IMAGE, "unknown-key"),
        ("extend", "action.verb", "release", "unknown-key"),
    ],
)
def test_p8_a_verb_has_exactly_its_own_fields(
    org: Organisation, verb: str, place: str, value: str, code: str
) -> None:
    """A field of another verb refuses the command."""
    assert code_of(edited(org.command(verb=verb), place, value)) == code


@pytest.mark.parametrize(
    "wrong",
    [
        {"verb": Verb.STOP, "holds_of": ID},
        {"verb": Verb.EVICT, "holds_of": ID},
        {"verb": Verb.RELEASE, "hold_s": 60},
        {"verb": Verb.RELEASE, "grace_s": 1},
        {"verb": Verb.EXTEND, "image": IMAGE, "hold_s": 60},
        {"verb": Verb.EXTEND},
    ],
)
def test_making_an_action_proves_its_fields(wrong: dict[str, Any]) -> None:
    """The constructor of Action checks the same rules."""
    with pytest.raises(Malformed, match="expected"):
        Action(namespace="monitoring", name="telemetry", **wrong)


def test_p8_an_unknown_field_refuses_the_command(org: Organisation) -> None:
    """An unknown key at any level refuses the command."""
    for place in ("x", "trust.x", "action.x", "targets.x", "limits.x", "rollout.x"):
        assert code_of(edited(org.command(), place, 1)) == "unknown-key"


def test_p8_every_field_must_be_there(org: Organisation) -> None:
    """Fields have no defaults: a command without one of them is refused."""
    document = canonical.parse_object(org.command(), max_bytes=bounds.MAX_COMMAND_BYTES)
    for key in document:
        left = {name: value for name, value in document.items() if name != key}
        assert code_of(canonical.render(left)) == "missing-key"


def test_p3_another_order_of_keys_is_another_text(org: Organisation) -> None:
    """A command with its keys in another order is refused."""
    document = canonical.parse_object(org.command(), max_bytes=bounds.MAX_COMMAND_BYTES)
    assert code_of(canonical.render(dict(reversed(document.items())))) == "not-canonical"


def test_a_command_has_a_size(org: Organisation) -> None:
    """A text beyond the size bound is refused before it is parsed."""
    assert code_of(org.command() + b" " * bounds.MAX_COMMAND_BYTES) == "malformed"


def test_making_a_command_proves_its_window(org: Organisation) -> None:
    """The constructor of Command checks the same rules."""
    good = org.draft()
    with pytest.raises(Malformed, match="window"):
        dataclasses.replace(good, not_after=good.not_before + timedelta(days=2))
    with pytest.raises(Malformed, match="order"):
        dataclasses.replace(good, not_before=good.not_after)
    with pytest.raises(Malformed, match="reason"):
        dataclasses.replace(good, reason="")
