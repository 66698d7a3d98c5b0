# SPDX-License-Identifier: Apache-2.0
"""Properties of random logs: each entry has one encoding, and an illegal entry is refused."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import cast, get_args, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from breakglass.core.entries import (
    KINDS,
    Accepted,
    Body,
    Entry,
    Finished,
    Planned,
    PlannedPod,
    PodEnded,
    Stamp,
    parse_entry,
    render_entry,
    render_instant,
)
from breakglass.core.fold import State, fold
from breakglass.core.gates import Gate, Oci
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
from breakglass.core.holds import coverage_of_name
from breakglass.core.recheck import recheck_log
from breakglass.errors import LogTampered, Malformed
from tests.support import properties
from tests.support.properties import property_test

_KEYS = st.sampled_from(["one", "two"])
_UIDS = st.sampled_from(["u1", "u2", "u3"])
_SECONDS = st.integers(0, 600)
_COUNTS = st.integers(0, 9)
_TEXTS = st.just("")


def _planned_pod(uid: str) -> PlannedPod:
    return PlannedPod(uid=uid, namespace="n", name=uid, sandbox="", containers=(), gate="")


# Only a few names, so that entries often refer to the same object.
BODIES: Mapping[type[Body], st.SearchStrategy[Body]] = {
    Accepted: st.builds(
        Accepted,
        id=_KEYS,
        sha256=_KEYS,
        mode=st.just("execute"),
        summary=_TEXTS,
        created=st.just("2026-11-21T04:00:00Z"),
        not_after=st.just("2026-11-21T05:00:00Z"),
        skew_s=st.just(0),
        policies=st.just(()),
        approvals=st.just(()),
        peer=_TEXTS,
        file=st.just(()),
    ),
    Planned: st.builds(
        Planned,
        id=_KEYS,
        mode=st.just("execute"),
        pods=st.lists(_UIDS, unique=True).map(lambda uids: tuple(map(_planned_pod, uids))),
    ),
    PodEnded: st.builds(
        PodEnded,
        id=_KEYS,
        mode=st.just("execute"),
        uid=_UIDS,
        namespace=_TEXTS,
        name=_TEXTS,
        seen=st.just("down"),
        resumed=st.booleans(),
        ms=_COUNTS,
        gate=_TEXTS,
        gate_note=_TEXTS,
        sandbox=_TEXTS,
        evidence=_TEXTS,
        evidence_note=_TEXTS,
        containers=st.just(()),
    ),
    Finished: st.builds(
        Finished,
        id=_KEYS,
        mode=st.just("execute"),
        result=st.sampled_from(["done", "interrupted", "released"]),
        code=_TEXTS,
        note=_TEXTS,
        pods=_COUNTS,
        down=_COUNTS,
        held=_COUNTS,
        restarted=_COUNTS,
        ms=_COUNTS,
        observed=st.just(()),
    ),
    HoldBegun: st.builds(
        HoldBegun,
        id=_KEYS,
        mode=st.just("execute"),
        namespace=st.just("n"),
        name=st.sampled_from(["telemetry", "agent"]),
        revision=st.sampled_from(["", "5d4f8c"]),
        image=_TEXTS,
        hold_s=_SECONDS,
        until=_TEXTS,
    ),
    HoldExtended: st.builds(HoldExtended, id=_KEYS, by=_KEYS, hold_s=_SECONDS, until=_TEXTS),
    HoldEnded: st.builds(
        HoldEnded, id=_KEYS, why=st.sampled_from(["released", "expired", "let-go"]), by=_KEYS
    ),
    GateIntended: st.builds(
        GateIntended,
        uid=_UIDS,
        namespace=st.just("n"),
        name=st.sampled_from(["telemetry-x2b4c", "agent-x2b4c", "other"]),
        hold=_KEYS,
        cgroup=st.just("kubepods/pod"),
        inode=_COUNTS,
        oci=st.sampled_from([str(one) for one in Oci]),
        limits=st.lists(
            st.builds(
                GateLimit,
                kind=st.sampled_from([str(one) for one in Gate]),
                place=_TEXTS,
                old=st.just("max"),
                early=st.booleans(),
            ),
            max_size=2,
        ).map(tuple),
    ),
    GateSeen: st.builds(
        GateSeen, uid=_UIDS, gate=st.sampled_from([str(one) for one in Gate]), note=_TEXTS
    ),
    GateLifted: st.builds(
        GateLifted, uid=_UIDS, why=st.sampled_from(["released", "gone"]), note=_TEXTS
    ),
    Enforced: st.builds(
        Enforced, id=_KEYS, attempts=_COUNTS, stops=_COUNTS, resets=_COUNTS, leaked_ms=_COUNTS
    ),
}


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Return entries of a machine with some reboots; time since boot never goes back."""
    entries: list[Entry] = []
    boot, mono_ms = 0, 0
    # Most logs begin as real ones do, so that random entries reach deep states.
    first: list[Body] = []
    for key in ("one", "two")[: draw(st.integers(0, 2))]:
        first.append(replace(cast("Accepted", draw(BODIES[Accepted])), id=key))
        if draw(st.booleans()):
            first.append(replace(cast("HoldBegun", draw(BODIES[HoldBegun])), id=key))
    for body in (*first, *draw(st.lists(st.one_of(*BODIES.values()), max_size=40))):
        if draw(st.integers(0, 9)) == 0:
            boot, mono_ms = boot + 1, 0
        mono_ms += draw(st.integers(0, 60_000))
        stamp = Stamp(time="2026-11-21T04:05:06.789Z", mono_ms=mono_ms, boot=f"b{boot}")
        entries.append(Entry(stamp=stamp, body=body))
    return entries


def _verify(state: State) -> None:
    """Assert the invariants of every state."""
    for command in state.commands.values():
        is_over = command.finished_at is not None
        assert is_over == (command.phase in {"finished", "interrupted"})
        assert {uid for uid, _ in command.pods} <= {pod.uid for pod in command.planned}
        assert len(command.pods) + len(command.unresolved) == len(command.planned)
        first = next(one for one in state.commands.values() if one.sha256 == command.sha256)
        assert state.by_sha256(command.sha256) == first
    owed = tuple(one for one in state.commands.values() if one.finished_at is None)
    assert state.unfinished == owed
    for key, hold in state.holds.items():
        assert hold.id == key
        assert key in state.commands
        assert hold.is_active == (not hold.ended)
        assert hold.is_active or (hold.ends_mono_ms, hold.left_ms(0)) == (0, 0)
        assert hold.left_ms(state.mono_ms) >= 0
        assert len(set(hold.extended_by)) == len(hold.extended_by)
        assert set(hold.extended_by) <= set(state.commands)
    assert state.active_holds == tuple(one for one in state.holds.values() if not one.ended)
    for uid, gated in state.gates.items():
        assert gated.uid == uid


@property_test
@given(logs())
def test_any_log_folds_or_is_refused_and_a_refused_entry_changes_nothing(
    entries: list[Entry],
) -> None:
    """Entries in any order give a valid state, or raise and change nothing."""
    state = State()
    for entry in entries:
        before, spelled = state, repr(state)
        try:
            state = fold(state, entry)
        except LogTampered:
            assert state is before
        else:
            assert state.size == before.size + 1
        assert repr(before) == spelled  # a state is a value: folding an entry does not change it
        _verify(state)


def _folded(state: State, entries: list[Entry]) -> State:
    """Return the state after the legal ones of these entries."""
    for entry in entries:
        with contextlib.suppress(LogTampered):
            state = fold(state, entry)
    return state


@property_test
@given(logs(), logs(), st.integers(0, 45))
def test_an_old_state_can_go_another_way(
    entries: list[Entry], others: list[Entry], place: int
) -> None:
    """An old state folds other entries independently of what followed it."""
    old = _folded(State(), entries[:place])
    newest = _folded(old, entries[place:])
    spelled = repr(newest)
    assert _folded(old, others) == _folded(State(), entries[:place] + others)
    assert newest == _folded(State(), entries)
    assert repr(newest) == spelled


@property_test
@given(logs())
def test_a_lease_never_ends_sooner_than_was_signed(entries: list[Entry]) -> None:
    """Neither an extension nor a reboot shortens a hold; only its end does."""
    state = State()
    for entry in entries:
        before = state
        try:
            state = fold(state, entry)
        except LogTampered:
            continue
        same_boot = before.boot in {"", state.boot}
        for key, hold in before.holds.items():
            now = state.holds[key]
            if now.is_active:
                left_ms = hold.left_ms(before.mono_ms)
                passed_ms = state.mono_ms - (before.mono_ms if same_boot else 0)
                assert now.left_ms(state.mono_ms) >= left_ms - passed_ms
            else:
                assert now.left_ms(state.mono_ms) == 0


@property_test
@given(logs())
def test_whoever_rechecks_any_log_gets_findings_and_no_exception(entries: list[Entry]) -> None:
    """Random entries have no valid signatures, so a recheck approves none and has findings."""
    report = recheck_log([render_entry(entry) for entry in entries])
    assert report.entries == len(entries)
    assert (report.approved, report.held, report.let_go) == (0, (), ())
    about = (Accepted, HoldBegun, GateIntended)
    assert len(report.findings) >= sum(isinstance(entry.body, about) for entry in entries)


@property_test
@given(logs(), st.sampled_from(["telemetry-x2b4c", "agent-x2b4c", "other"]))
def test_what_covers_a_pod_is_active_and_of_its_workload(entries: list[Entry], name: str) -> None:
    """An ended hold or a hold of another workload covers no pod."""
    state = State()
    for entry in entries:
        try:
            state = fold(state, entry)
        except LogTampered:
            continue
    _, holds = coverage_of_name(state.holds.values(), "n", name)
    assert all(hold.is_active and name.startswith(f"{hold.workload.name}-") for hold in holds)


def _any_value(hint: object) -> st.SearchStrategy[object]:
    """Return a strategy for the values of a field with this type hint."""
    if hint is str:
        return properties.text
    if hint is int:
        return st.integers(-1, 2**53 - 1)
    if hint is bool:
        return st.booleans()
    (inner, _) = get_args(hint)
    items = properties.text if inner is str else _any_body(cast("type[Body]", inner))
    return st.lists(cast("st.SearchStrategy[object]", items), max_size=3).map(tuple)


def _any_body(kind: type[Body]) -> st.SearchStrategy[Body]:
    fields = {name: _any_value(hint) for name, hint in get_type_hints(kind).items()}
    return st.builds(kind, **fields)


@property_test
@given(st.one_of(*map(_any_body, KINDS.values())), properties.time)
def test_every_kind_of_entry_reads_back_as_it_was_written(body: Body, time: object) -> None:
    """Any values of an entry's fields are read back, from one encoding only."""
    stamp = Stamp(time=render_instant(time), mono_ms=7, boot="b")  # type: ignore[arg-type]
    raw = render_entry(Entry(stamp=stamp, body=body))
    assert parse_entry(raw) == Entry(stamp=stamp, body=body)
    assert render_entry(parse_entry(raw)) == raw


@property_test
@given(st.one_of(*map(_any_body, KINDS.values())), st.data())
def test_whatever_is_read_as_an_entry_is_rendered_as_it_was(
    body: Body, data: st.DataObject
) -> None:
    """Bytes with a part cut, doubled or replaced are refused, or encode another entry."""
    stamp = Stamp(time="2026-11-21T04:05:06.789Z", mono_ms=7, boot="b")
    raw = data.draw(properties.broken(render_entry(Entry(stamp=stamp, body=body))))
    try:
        found = parse_entry(raw)
    except Malformed:
        return
    assert render_entry(found) == raw
