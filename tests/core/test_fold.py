# SPDX-License-Identifier: Apache-2.0
"""A node's state is a fold over its log; a table defines the phases of a command."""

from datetime import UTC, datetime

import pytest

from breakglass.core.entries import (
    Accepted,
    Body,
    Entry,
    Finished,
    Planned,
    PlannedPod,
    PodEnded,
    Stamp,
    Started,
    Stopped,
    TrustTaken,
)
from breakglass.core.fold import LIFECYCLE, CommandEvent, Phase, State, fold
from breakglass.errors import LogTampered

STAMP = Stamp(time="2026-11-21T04:05:06.789Z", mono_ms=1, boot="b")


def accepted(key: str = "one", created: str = "2026-11-21T04:00:00Z") -> Accepted:
    """Return an entry that accepts the command `key`."""
    return Accepted(
        id=key,
        sha256=f"sha-{key}",
        mode="execute",
        summary="",
        created=created,
        not_after="2026-11-21T05:00:00Z",
        skew_s=0,
        policies=(),
        approvals=(),
        peer="local",
        file=(),
    )


def planned(*uids: str) -> Planned:
    """Return an entry that plans pods with these uids."""
    pods = tuple(
        PlannedPod(uid=uid, namespace="n", name=uid, sandbox="", containers=(), gate="")
        for uid in uids
    )
    return Planned(id="one", mode="execute", pods=pods)


def ended(uid: str) -> PodEnded:
    """Return an entry with a pod's outcome."""
    return PodEnded(
        id="one",
        mode="execute",
        uid=uid,
        namespace="n",
        name=uid,
        seen="down",
        resumed=False,
        ms=1,
        gate="",
        gate_note="",
        sandbox="",
        evidence="",
        evidence_note="",
        containers=(),
    )


def finished(result: str = "done") -> Finished:
    """Return an entry that ends the command."""
    return Finished(
        id="one",
        mode="execute",
        result=result,
        code="",
        note="",
        pods=0,
        down=0,
        held=0,
        restarted=0,
        ms=0,
        observed=(),
    )


EVENTS: dict[CommandEvent, Body] = {
    CommandEvent.ACCEPT: accepted(),
    CommandEvent.PLAN: planned("u"),
    CommandEvent.POD: ended("u"),
    CommandEvent.FINISH: finished(),
    CommandEvent.INTERRUPT: finished("interrupted"),
}
WAYS: dict[Phase, tuple[Body, ...]] = {
    Phase.UNSEEN: (),
    Phase.ACCEPTED: (accepted(),),
    Phase.PLANNED: (accepted(), planned("u")),
    Phase.FINISHED: (accepted(), planned("u"), finished()),
    Phase.INTERRUPTED: (accepted(), finished("interrupted")),
}


def after(*bodies: Body) -> State:
    """Return the state that these entries make."""
    state = State()
    for body in bodies:
        state = fold(state, Entry(stamp=STAMP, body=body))
    return state


@pytest.mark.parametrize("event", CommandEvent)
@pytest.mark.parametrize("phase", Phase)
def test_every_pair_of_phase_and_event_is_decided_by_the_table(
    phase: Phase, event: CommandEvent
) -> None:
    """A pair in the table changes the phase; any other raises and changes nothing."""
    state = after(*WAYS[phase])
    entry = Entry(stamp=STAMP, body=EVENTS[event])
    if (phase, event) in LIFECYCLE:
        assert fold(state, entry).commands["one"].phase is LIFECYCLE[phase, event]
    else:
        with pytest.raises(LogTampered, match="expected"):
            fold(state, entry)
        assert state == after(*WAYS[phase])


def test_a_command_keeps_where_its_entries_stand() -> None:
    """The state has the entry numbers of acceptance, outcomes and end."""
    start = Started(
        version="1", domain="d", cluster="c", node="n", pool="", trust_version=1, trust_sha256="t"
    )
    state = after(start, accepted(), planned("a", "b"), ended("b"), ended("a"), finished())
    command = state.commands["one"]
    assert (command.accepted_at, command.pods, command.finished_at) == (1, (("b", 3), ("a", 4)), 5)
    assert state.starts == 1
    assert state.size == 6
    assert state.by_sha256("sha-one") == command
    assert state.by_sha256("another") is None
    assert state.unfinished == ()


def test_what_is_owed_is_known() -> None:
    """A command without an end is unfinished, and its pods without an outcome are unresolved."""
    state = after(accepted(), planned("a", "b"), ended("a"))
    assert [pod.uid for pod in state.unfinished[0].unresolved] == ["b"]
    assert state.unfinished[0].finished_at is None


def test_a_pod_has_one_outcome() -> None:
    """A second outcome of a pod, or an outcome of an unplanned pod, raises LogTampered."""
    state = after(accepted(), planned("a"), ended("a"))
    with pytest.raises(LogTampered, match="one outcome for each planned pod of one"):
        fold(state, Entry(stamp=STAMP, body=ended("a")))


def test_the_floor_is_the_newest_time_that_people_signed() -> None:
    """The time floor rises with accepted commands and never falls."""
    state = after(accepted("one", "2026-11-21T04:00:00Z"), accepted("two", "2026-11-21T03:00:00Z"))
    assert state.time_floor == datetime(2026, 11, 21, 4, tzinfo=UTC)


def test_the_trust_in_force_is_the_last_taken() -> None:
    """The state has the trust's version and digest; other entries do not change them."""
    state = after(TrustTaken(version=1, sha256="t", text=()), Stopped(active=0))
    assert (state.trust_version, state.trust_sha256) == (1, "t")
