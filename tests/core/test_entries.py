# SPDX-License-Identifier: Apache-2.0
"""Entries have one canonical encoding, and `parse_entry` accepts no other."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import bounds
from breakglass.core.entries import (
    KINDS,
    Accepted,
    ApprovalMade,
    Entry,
    Finished,
    Planned,
    PlannedPod,
    PodEnded,
    RefusedEntry,
    SeenContainer,
    SeenPod,
    Stamp,
    Stopped,
    from_lines,
    parse_entry,
    parse_instant,
    render_entry,
    render_instant,
    to_lines,
)
from breakglass.core.hold_entries import (
    Enforced,
    GateIntended,
    GateLifted,
    GateLimit,
    GateSeen,
    HoldBegun,
    HoldEnded,
    HoldExtended,
)
from breakglass.errors import Malformed

STAMP = Stamp(time="2026-11-21T04:05:06.789Z", mono_ms=12_345, boot="b0")
ENTRIES = (
    Stopped(active=2),
    Accepted(
        id="i",
        sha256="s",
        mode="drill",
        summary="STOP",
        created="c",
        not_after="n",
        skew_s=300,
        policies=("p",),
        approvals=(ApprovalMade(person="ana", key="k", kind="ssh-ed25519", flags=-1, counter=-1),),
        peer="local",
        file=("{", "", "{", '"'),
    ),
    Planned(
        id="i",
        mode="execute",
        pods=(
            PlannedPod(
                uid="u", namespace="n", name="p", sandbox="s", containers=("a", "b"), gate="pids"
            ),
        ),
    ),
    PodEnded(
        id="i",
        mode="execute",
        uid="u",
        namespace="n",
        name="p",
        seen="down",
        resumed=True,
        ms=3,
        gate="watch only",
        gate_note="no group of it",
        sandbox="gone",
        evidence="e",
        evidence_note="",
        containers=(
            SeenContainer(id="a", name="b", rung=1, seen="down", kernel="gone", ms=3, error=""),
        ),
    ),
    Finished(
        id="i",
        mode="execute",
        result="done",
        code="",
        note="",
        pods=1,
        down=1,
        held=1,
        restarted=0,
        ms=9,
        observed=(SeenPod(uid="u", name="p", seen="down"),),
    ),
    HoldBegun(
        id="i",
        mode="execute",
        namespace="n",
        name="p",
        revision="",
        image="",
        hold_s=60,
        until="2026-11-21T04:06:06.789Z",
    ),
    HoldExtended(id="i", by="j", hold_s=60, until="2026-11-21T05:06:06.789Z"),
    HoldEnded(id="i", why="released", by="j"),
    GateIntended(
        uid="u",
        namespace="n",
        name="p",
        hold="i",
        cgroup="/kubepods/podu",
        inode=7,
        oci="runc",
        limits=(GateLimit(kind="descendants", place="x", old="max", early=True),),
    ),
    GateSeen(uid="u", gate="descendants", note=""),
    GateLifted(uid="u", why="released", note=""),
    Enforced(id="i", attempts=3, stops=1, resets=0, leaked_ms=0),
)


@pytest.mark.parametrize("body", ENTRIES, ids=lambda body: type(body).__name__)
def test_an_entry_reads_back_as_it_was_written(body: Stopped) -> None:
    """Parsing a rendered entry returns the same value and kind."""
    entry = Entry(stamp=STAMP, body=body)
    raw = render_entry(entry)
    assert parse_entry(raw) == entry
    assert KINDS[entry.kind] is type(body)
    assert raw.startswith(b'{"kind":"' + entry.kind.encode())
    assert b"\n" not in raw


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b'"stopped"', b'"started-x"'), "known kind"),
        ((b'"active":2', b'"active": 2'), "canonical encoding"),
        ((b'"active":2', b'"active":2,"more":1'), "no key"),
        ((b'"active":2', b'"active":"2"'), "an integer"),
        ((b'"active":2', b'"passive":2'), "the key active"),
        ((b".789Z", b".78Z"), "UTC time in milliseconds"),
        ((b"2026-11-21T", b"yesterday T"), "UTC time in milliseconds"),
        ((b"2026-11-21T", b"2026-11-31T"), "a time that exists"),
    ],
)
def test_another_spelling_is_refused(change: tuple[bytes, bytes], message: str) -> None:
    """A changed byte anywhere in an entry refuses it with a message."""
    raw = render_entry(Entry(stamp=STAMP, body=Stopped(active=2)))
    with pytest.raises(Malformed, match=message):
        parse_entry(raw.replace(*change))


@pytest.mark.parametrize("body", ENTRIES, ids=lambda body: type(body).__name__)
def test_keys_have_one_order(body: Stopped) -> None:
    """Keys in another order are refused, also in nested objects."""
    whole = json.loads(render_entry(Entry(stamp=STAMP, body=body)))
    others = [dict(reversed(whole.items()))]
    for key, value in whole.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            others.append({**whole, key: [dict(reversed(value[0].items())), *value[1:]]})
    for other in others:
        with pytest.raises(Malformed, match="keys in the schema's order") as refusal:
            parse_entry(json.dumps(other, separators=(",", ":")).encode())
        assert refusal.value.stable_code == "not-canonical"


def test_an_entry_is_bounded() -> None:
    """Rendering an entry beyond the size bound raises Malformed."""
    body = RefusedEntry(
        sha256="",
        size=1,
        code="c",
        needed="n",
        have="h",
        skew_s=0,
        peer="p",
        file=("x" * bounds.MAX_ENTRY_BYTES,),
    )
    with pytest.raises(Malformed, match="expected an entry of at most 65535 bytes"):
        render_entry(Entry(stamp=STAMP, body=body))


def test_a_nested_unknown_key_is_refused() -> None:
    """Unknown keys are refused at every level."""
    finished = next(one for one in ENTRIES if isinstance(one, Finished))
    raw = render_entry(Entry(stamp=STAMP, body=finished))
    with pytest.raises(Malformed, match="no key"):
        parse_entry(raw.replace(b'"seen":"down"}', b'"seen":"down","x":1}'))


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.just("\n")))
def test_lines_give_the_text_back(text: str) -> None:
    """`from_lines` returns the text that `to_lines` split."""
    raw = text.encode()
    assert from_lines(to_lines(raw)) == raw


@given(st.binary(max_size=300))
def test_foreign_bytes_are_malformed_and_nothing_else(raw: bytes) -> None:
    """Parsing any bytes returns an entry or raises Malformed."""
    with pytest.raises(Malformed):
        parse_entry(raw)


def test_instants_are_milliseconds_in_utc() -> None:
    """An instant keeps milliseconds and drops microseconds."""
    time = datetime(2026, 11, 21, 4, 5, 6, 789_999, tzinfo=UTC)
    assert render_instant(time) == "2026-11-21T04:05:06.789Z"
    assert parse_instant("2026-11-21T04:05:06.789Z") == time.replace(microsecond=789_000)
