# SPDX-License-Identifier: Apache-2.0
"""Holds: leases computed from the log, the pods that they cover, and the gates' old values."""

from dataclasses import replace

import pytest

from breakglass.core.entries import (
    Accepted,
    Body,
    Entry,
    Planned,
    PlannedPod,
    PodEnded,
    Stamp,
    Started,
    Stopped,
)
from breakglass.core.fold import State, fold
from breakglass.core.gates import Gate, Limit, Oci
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
from breakglass.core.holds import Covers, Hold, coverage, coverage_of_name
from breakglass.core.pods import Container, ContainerState, Pod, Workload
from breakglass.errors import LogTampered

DIGEST = f"sha256:{'1f' * 32}"
OTHER_DIGEST = f"sha256:{'2e' * 32}"
TELEMETRY = Workload(namespace="monitoring", name="telemetry")
BAD, GOOD = "5d4f8c", "6b9b78"


def at(mono_ms: int, body: Body, *, boot: str = "b1") -> Entry:
    """Return an entry at a time since boot, with a wall time that must not matter."""
    return Entry(
        stamp=Stamp(time="2026-11-21T04:00:00.000Z", mono_ms=mono_ms, boot=boot), body=body
    )


def accepted(key: str = "one") -> Accepted:
    """Return an entry that accepts a command."""
    return Accepted(
        id=key,
        sha256=f"sha-{key}",
        mode="execute",
        summary="STOP",
        created="2026-11-21T04:00:00Z",
        not_after="2026-11-21T05:00:00Z",
        skew_s=0,
        policies=(),
        approvals=(),
        peer="local",
        file=(),
    )


def begun(key: str = "one", *, hold_s: int = 60, revision: str = "", image: str = "") -> HoldBegun:
    """Return an entry that begins the hold of a command."""
    return HoldBegun(
        id=key,
        mode="execute",
        namespace="monitoring",
        name="telemetry",
        revision=revision,
        image=image,
        hold_s=hold_s,
        until="",
    )


INTENDED = GateIntended(
    uid="u",
    namespace="monitoring",
    name="telemetry-56hr6",
    hold="one",
    cgroup="/kubepods/podu",
    inode=7,
    oci="runc",
    limits=(GateLimit(kind="descendants", place="/x", old="max", early=True),),
)


def after(*entries: Entry) -> State:
    """Return the state after these entries."""
    state = State()
    for entry in entries:
        state = fold(state, entry)
    return state


def held(**hold: object) -> State:
    """Return the state with one hold that began 1 s after the boot."""
    return after(at(0, accepted()), at(1_000, begun(**hold)))  # type: ignore[arg-type]


def pod(*images: str, revision: str = BAD, name: str = "telemetry-56hr6") -> Pod:
    """Return a pod of the DaemonSet, with a container of each image."""
    return Pod(
        uid="u",
        name=name,
        namespace="monitoring",
        sandbox_id="ab" * 32,
        labels=(("controller-revision-hash", revision),),
        annotations=(("kubernetes.io/config.source", "api"),),
        containers=tuple(
            Container(id=f"{place:064x}", name="c", state=ContainerState.RUNNING, image_ref=image)
            for place, image in enumerate(images)
        ),
    )


def the_hold(state: State) -> Hold:
    """Return the hold of the first command."""
    return state.holds["one"]


# Leases


def test_a_hold_lasts_as_long_as_was_signed_by_time_since_boot() -> None:
    """A hold ends by time since boot, whatever the wall clock says."""
    hold = the_hold(held(hold_s=60))
    assert (hold.is_active, hold.begun_at, hold.ends_mono_ms) == (True, 1, 61_000)
    assert [hold.left_ms(mono_ms) for mono_ms in (1_000, 60_999, 61_000, 99_000)] == [
        60_000,
        1,
        0,
        0,
    ]


def test_a_hold_begins_with_an_accepted_command_and_once() -> None:
    """A hold needs an accepted command in the log, and a command has one hold at most."""
    with pytest.raises(LogTampered, match="expected an accepted command"):
        after(at(0, begun()))
    with pytest.raises(LogTampered, match="one hold of command one"):
        fold(held(), at(2_000, begun()))


def test_an_extension_counts_from_its_own_moment_and_never_shortens() -> None:
    """An extension needs an accepted command, counts from its entry and never shortens."""
    state = fold(held(hold_s=60), at(10_000, accepted("two")))
    longer = fold(state, at(20_000, HoldExtended(id="one", by="two", hold_s=60, until="")))
    assert the_hold(longer).ends_mono_ms == 80_000
    shorter = fold(state, at(20_000, HoldExtended(id="one", by="two", hold_s=1, until="")))
    assert the_hold(shorter).ends_mono_ms == 61_000
    with pytest.raises(LogTampered, match="expected an accepted command"):
        fold(state, at(20_000, HoldExtended(id="one", by="three", hold_s=60, until="")))


@pytest.mark.parametrize(("why", "by"), [("released", "two"), ("expired", ""), ("let-go", "")])
def test_what_has_ended_stays_ended(why: str, by: str) -> None:
    """An ended hold keeps its counts, has no time left and cannot be changed."""
    state = fold(held(), at(5_000, HoldEnded(id="one", why=why, by=by)))
    assert (the_hold(state).ended, the_hold(state).ended_by) == (why, by)
    assert (state.active_holds, the_hold(state).left_ms(5_000)) == ((), 0)
    assert (the_hold(state).ends_mono_ms, the_hold(state).unused_ms) == (0, 56_000)
    for body in (
        HoldEnded(id="one", why="expired", by=""),
        HoldExtended(id="one", by="one", hold_s=60, until=""),
        HoldEnded(id="never", why="expired", by=""),
    ):
        with pytest.raises(LogTampered, match="expected an active hold"):
            fold(state, at(6_000, body))


def test_after_a_reboot_what_was_left_counts_from_the_boot_on() -> None:
    """A node cannot know its time off, so a reboot never shortens a hold."""
    state = fold(held(hold_s=60), at(31_000, Stopped(active=0)))
    start = Started(
        version="1", domain="d", cluster="c", node="n", pool="", trust_version=1, trust_sha256="t"
    )
    again = fold(state, at(4_000, start, boot="b2"))
    assert the_hold(again).ends_mono_ms == 30_000
    assert (again.boot, again.mono_ms) == ("b2", 4_000)
    ended = fold(again, at(5_000, HoldEnded(id="one", why="expired", by=""), boot="b2"))
    assert the_hold(fold(ended, at(1, start, boot="b3"))).ends_mono_ms == 0


def test_what_a_hold_came_to_adds_up() -> None:
    """Each entry has the counts since the last one; the hold has their sums."""
    state = held()
    for _ in range(2):
        body = Enforced(id="one", attempts=3, stops=1, resets=2, leaked_ms=40)
        state = fold(state, at(9_000, body))
    hold = the_hold(state)
    assert (hold.attempts, hold.stops, hold.resets, hold.leaked_ms) == (6, 2, 4, 80)


def test_the_last_count_may_follow_a_holds_end() -> None:
    """Counts may be recorded after a hold's end, but not for an unknown hold."""
    state = fold(held(), at(5_000, HoldEnded(id="one", why="expired", by="")))
    state = fold(state, at(6_000, Enforced(id="one", attempts=1, stops=0, resets=0, leaked_ms=0)))
    assert the_hold(state).attempts == 1
    assert not the_hold(state).is_active
    with pytest.raises(LogTampered, match="expected a hold of command never, got none"):
        fold(state, at(7_000, Enforced(id="never", attempts=1, stops=0, resets=0, leaked_ms=0)))


# Which pods a hold covers


@pytest.mark.parametrize(
    ("of_hold", "seen", "covers"),
    [
        ({}, pod(), Covers.YES),
        ({}, pod(name="other-56hr6"), Covers.NO),
        ({"revision": BAD}, pod(), Covers.YES),
        ({"revision": BAD}, pod(revision=GOOD), Covers.NO),
        ({"image": DIGEST}, pod(DIGEST), Covers.YES),
        ({"image": DIGEST}, pod(OTHER_DIGEST, f"r.example/t@{DIGEST}"), Covers.YES),
        ({"image": DIGEST}, pod(OTHER_DIGEST), Covers.MAYBE),
        ({"image": DIGEST}, pod(), Covers.MAYBE),
        ({}, replace(pod(), labels=(), annotations=(), by_name=True), Covers.YES),
        ({"revision": BAD}, replace(pod(), labels=(), by_name=True), Covers.MAYBE),
    ],
)
def test_whom_a_hold_covers(of_hold: dict[str, str], seen: Pod, covers: Covers) -> None:
    """Another revision is not covered; a pod with too little information may be."""
    assert the_hold(held(**of_hold)).covers(seen) is covers


@pytest.mark.parametrize(
    ("of_hold", "namespace", "name", "covers"),
    [
        ({}, "monitoring", "telemetry-56hr6", Covers.YES),
        ({}, "default", "telemetry-56hr6", Covers.NO),
        ({}, "monitoring", "telemetry-agent-56hr6", Covers.NO),
        ({"revision": BAD}, "monitoring", "telemetry-56hr6", Covers.MAYBE),
        ({"image": DIGEST}, "monitoring", "telemetry-56hr6", Covers.MAYBE),
    ],
)
def test_whom_a_hold_covers_by_the_name_of_its_folder_of_logs(
    of_hold: dict[str, str], namespace: str, name: str, covers: Covers
) -> None:
    """A newborn pod has only a name, which contains no revision and no image."""
    state = held(**of_hold)
    assert the_hold(state).covers_name(namespace, name) is covers
    found, holds = coverage_of_name(state.active_holds, namespace, name)
    assert (found, bool(holds)) == (covers, covers is not Covers.NO)


def test_holds_compose_and_end_each_by_itself() -> None:
    """A pod is held while at least one hold covers it."""
    state = fold(held(revision=BAD), at(2_000, accepted("two")))
    state = fold(state, at(2_000, begun("two", image=DIGEST)))
    both = pod(DIGEST)
    covers, holds = coverage(state.active_holds, both)
    assert (covers, [hold.id for hold in holds]) == (Covers.YES, ["one", "two"])
    state = fold(state, at(3_000, HoldEnded(id="one", why="expired", by="")))
    covers, holds = coverage(state.holds.values(), both)
    assert (covers, [hold.id for hold in holds]) == (Covers.YES, ["two"])
    assert coverage(state.active_holds, pod())[0] is Covers.MAYBE
    state = fold(state, at(4_000, HoldEnded(id="two", why="expired", by="")))
    assert coverage(state.active_holds, both) == (Covers.NO, ())


@pytest.mark.parametrize(
    ("workload", "command", "meant"),
    [
        (TELEMETRY, "", True),
        (TELEMETRY, "one", True),
        (TELEMETRY, "two", False),
        (replace(TELEMETRY, revision=BAD), "", True),
        (replace(TELEMETRY, revision=GOOD), "", False),
        (replace(TELEMETRY, name="other"), "one", False),
        (replace(TELEMETRY, namespace="default"), "", False),
    ],
)
def test_which_hold_a_release_means(workload: Workload, command: str, *, meant: bool) -> None:
    """A release selects all holds of the workload, of one revision or of one command."""
    state = held(revision=BAD)
    assert the_hold(state).is_meant(workload, command) is meant
    ended = fold(state, at(5_000, HoldEnded(id="one", why="expired", by="")))
    assert not the_hold(ended).is_meant(workload, command)


# Gates


def test_a_gate_keeps_what_was_there_before_it() -> None:
    """The old values are in the intent, so that they can be restored after any crash."""
    state = fold(held(), at(2_000, INTENDED))
    gated = state.gates["u"]
    assert gated.limits == (Limit(kind=Gate.DESCENDANTS, place="/x", old="max", early=True),)
    assert (gated.gate, gated.note, gated.oci, gated.inode) == ("", "", Oci.RUNC, 7)
    state = fold(state, at(3_000, GateSeen(uid="u", gate="descendants", note="")))
    assert state.gates["u"].gate == "descendants"
    anew = fold(state, at(4_000, replace(INTENDED, inode=8)))
    assert (anew.gates["u"].inode, anew.gates["u"].gate) == (8, "")
    assert fold(anew, at(5_000, GateLifted(uid="u", why="released", note=""))).gates == {}


def test_what_a_stop_saw_of_a_gate_is_known_from_its_own_entry() -> None:
    """A pod's outcome records its gate without a second entry; a stop without a hold has none."""
    planned = PlannedPod(uid="u", namespace="n", name="p", sandbox="", containers=(), gate="")
    state = fold(held(), at(2_000, Planned(id="one", mode="execute", pods=(planned,))))
    state = fold(state, at(2_000, INTENDED))
    ended = PodEnded(
        id="one",
        mode="execute",
        uid="u",
        namespace="n",
        name="p",
        seen="down",
        resumed=False,
        ms=1,
        gate="descendants",
        gate_note="a note",
        sandbox="",
        evidence="",
        evidence_note="",
        containers=(),
    )
    gated = fold(state, at(3_000, ended)).gates["u"]
    assert (gated.gate, gated.note) == ("descendants", "a note")
    assert fold(state, at(3_000, replace(ended, gate=""))).gates == state.gates


@pytest.mark.parametrize(
    "body", [GateSeen(uid="u", gate="pids", note=""), GateLifted(uid="u", why="gone", note="")]
)
def test_what_was_never_gated_is_neither_proven_nor_lifted(body: Body) -> None:
    """A proof or a lift for an ungated pod raises LogTampered."""
    with pytest.raises(LogTampered, match="expected a gated pod"):
        fold(held(), at(2_000, body))
