# SPDX-License-Identifier: Apache-2.0
"""What keeping a hold came to: counted once, by the runtime's words, and recorded now and then."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from breakglass.agent.clock import Clock
from breakglass.agent.hold.counters import HoldCounters
from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.agent.runtime.port import ContainerLook, Runtime
from breakglass.core import bounds
from breakglass.core.checkpoint import LogSigner
from breakglass.core.entries import Accepted, parse_entry
from breakglass.core.gates import Oci
from breakglass.core.hold_entries import Enforced, HoldBegun
from breakglass.core.holds import GatedPod, Hold
from breakglass.core.pods import Container, ContainerState, Pod
from breakglass.errors import LogUnknown, RuntimeUnavailable, StateUnwritable
from breakglass.sim.clock import VirtualClock
from breakglass.sim.node import SimNode
from tests.support.sim_runtime import SimRuntime, VirtualAgentClock
from tests.support.virtual_agent import InlineExecutor, NoKnownPods

_SIGNER = LogSigner("breakglass/example/prod-a/n1", bytes(32))
_S = 1_000_000_000
GATED = GatedPod(
    uid="u",
    namespace="monitoring",
    name="telemetry-x2b4c",
    hold="one",
    cgroup="",
    inode=1,
    oci=Oci.RUNC,
    limits=(),
)


def counters_of(journal: Journal, runtime: Runtime, clock: Clock) -> HoldCounters:
    """Return the counters of an agent whose runtime has listed no pod yet."""
    coverage = Coverage(journal, NoKnownPods())
    return HoldCounters(journal=journal, runtime=runtime, coverage=coverage, clock=clock)


class ToldRuntime(SimRuntime):
    """A runtime that tells what a test says of containers."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(SimNode(clock=clock), clock)
        self.told: dict[str, ContainerLook] = {}
        self.asked: list[str] = []

    async def container(self, container_id: str) -> ContainerLook | None:
        """Return what was said, None for a container of which nothing was."""
        self.asked.append(container_id)
        if not self.alive:
            raise RuntimeUnavailable("expected an answer, got none")
        return self.told.get(container_id)


@dataclass
class Book:
    """A log with one hold in force, and the counts of it."""

    folder: Path
    clock: VirtualClock
    runtime: ToldRuntime
    log: AuditLog
    journal: Journal
    counters: HoldCounters

    @classmethod
    async def open(cls, folder: Path) -> "Book":
        """Return the book of a hold that has just begun."""
        asyncio.get_running_loop().set_default_executor(InlineExecutor())
        clock = VirtualClock()
        runtime, agent_clock = ToldRuntime(clock), VirtualAgentClock(clock)
        log = AuditLog.open(folder / "log", _SIGNER)
        journal = Journal(log, agent_clock)
        await journal.record(
            Accepted(
                id="one",
                sha256="",
                mode="execute",
                summary="",
                created="2026-11-21T04:00:00Z",
                not_after="2026-11-21T05:00:00Z",
                skew_s=0,
                policies=(),
                approvals=(),
                peer="",
                file=(),
            )
        )
        await journal.record(
            HoldBegun(
                id="one",
                mode="execute",
                namespace="monitoring",
                name="telemetry",
                revision="",
                image="",
                hold_s=86_400,
                until="",
            )
        )
        counters = counters_of(journal, runtime, agent_clock)
        return cls(folder, clock, runtime, log, journal, counters)

    @property
    def hold(self) -> Hold:
        """The hold."""
        return self.journal.state.holds["one"]

    def ended(self, name: str, *, ran_s: float | None) -> Container:
        """Let a container come and end just now: it ran so long, or never started."""
        now_ns = self.clock.now_ns()
        began_ns = now_ns - round((ran_s or 0) * _S)
        self.runtime.told[name] = ContainerLook(
            state=ContainerState.EXITED,
            pid=None,
            exit_code=128,
            reason="StartError" if ran_s is None else "Error",
            started_ns=0 if ran_s is None else began_ns,
            finished_ns=now_ns,
        )
        return Container(id=name, name="c", state=ContainerState.EXITED, created_ns=began_ns)

    async def count(self, *containers: Container, without_runtime: bool = False) -> tuple[str, ...]:
        """Count a look at the pod; return the containers that must be stopped."""
        pod = Pod(
            uid="u",
            name="telemetry-x2b4c",
            namespace="monitoring",
            sandbox_id="s",
            containers=containers,
        )
        found = await self.counters.count(pod, self.hold, without_runtime=without_runtime)
        return tuple(one.id for one in found)

    def recorded(self) -> list[Enforced]:
        """Return the entries of counts, in order."""
        bodies = [parse_entry(raw).body for raw in self.log.entries()]
        return [body for body in bodies if isinstance(body, Enforced)]

    def figures(self) -> tuple[int, int, int, int]:
        """Return the whole counts: attempts, stops, resets and leaked milliseconds."""
        now = self.counters.now(self.hold)
        return now.attempts, now.stops, now.resets, now.leaked_ms

    def restarted(self) -> None:
        """Be counted by an agent that has just started."""
        agent_clock = VirtualAgentClock(self.clock)
        self.journal = Journal(self.log, agent_clock)
        self.counters = counters_of(self.journal, self.runtime, agent_clock)


@pytest.fixture
async def book(tmp_path: Path) -> Book:
    """A hold that began a second ago."""
    book = await Book.open(tmp_path)
    await book.clock.advance(1)
    return book


async def test_a_start_that_failed_is_an_attempt_and_counted_once(book: Book) -> None:
    """It never ran, so nothing leaked; the next look at the same container counts nothing."""
    failed = book.ended("a", ran_s=None)
    await book.count(failed)
    await book.count(failed)
    assert book.figures() == (1, 0, 0, 0)
    assert book.runtime.asked == ["a"]


async def test_a_container_that_ran_is_a_stop_and_its_time_leaked(book: Book) -> None:
    """From its start to its end by the runtime's clock, in milliseconds."""
    await book.clock.advance(5)
    await book.count(book.ended("a", ran_s=0.25), book.ended("b", ran_s=1.5))
    assert book.figures() == (0, 2, 0, 1_750)


async def test_what_must_be_stopped_is_what_runs_or_may_run(book: Book) -> None:
    """A container that is only created fails at the gate, or runs at the next look."""
    states = [
        replace(Container(id=state, name="c", state=state), created_ns=book.clock.now_ns())
        for state in ContainerState
    ]
    assert await book.count(*states) == ("running", "unknown")
    assert book.figures() == (0, 0, 0, 0)


async def test_what_was_there_before_the_hold_is_its_commands(book: Book) -> None:
    """By the time it was created, or because the command said so."""
    old = replace(book.ended("old", ran_s=30), created_ns=book.clock.now_ns() - 30 * _S)
    await book.count(old)
    assert book.figures() == (0, 0, 0, 0)
    book.counters.know("u", ["known"])
    await book.count(old, book.ended("known", ran_s=0.5))
    assert book.figures() == (0, 0, 0, 0)


async def test_what_the_runtime_cannot_tell_now_is_asked_again(book: Book) -> None:
    """Silence costs no count; neither does a look around the runtime."""
    failed = book.ended("a", ran_s=None)
    await book.count(failed, without_runtime=True)
    assert book.runtime.asked == []
    book.runtime.alive = False
    await book.count(failed)
    assert book.figures() == (0, 0, 0, 0)
    book.runtime.alive = True
    await book.count(failed)
    assert book.figures() == (1, 0, 0, 0)


async def test_a_container_that_is_gone_counts_for_nothing(book: Book) -> None:
    """The runtime no longer knows it: it counts for nothing and is not asked for again."""
    gone = book.ended("a", ran_s=None)
    book.runtime.told.clear()
    await book.count(gone)
    await book.count(gone)
    assert book.figures() == (0, 0, 0, 0)
    assert book.runtime.asked == ["a"]


async def test_counts_are_recorded_once_a_minute(book: Book) -> None:
    """A kubelet that tries every second fills no log; what is told is whole all the time."""
    seen: list[Container] = []
    for attempt in range(180):
        await book.clock.advance(1)
        seen.append(book.ended(f"a{attempt}", ran_s=None))
        await book.count(*seen)
        await book.counters.flush((book.hold,))
        assert book.figures() == (attempt + 1, 0, 0, 0)
    assert 3 <= len(book.recorded()) <= 4
    assert sum(one.attempts for one in book.recorded()) == book.hold.attempts
    await book.counters.flush((book.hold,), at_once=True)
    assert (book.hold.attempts, book.figures()) == (180, (180, 0, 0, 0))


async def test_nothing_new_is_not_recorded_and_silence_is_broken_now_and_then(book: Book) -> None:
    """An entry without counts dates the log, for a lease goes on from it after a reboot."""
    for _ in range(60):
        await book.clock.advance(30)
        await book.counters.flush((book.hold,))
    assert book.recorded() == [Enforced(id="one", attempts=0, stops=0, resets=0, leaked_ms=0)] * 3
    assert bounds.HOLD_BEAT_S == 600


async def test_another_agent_counts_on_from_where_the_last_one_was(book: Book) -> None:
    """What is on record is not counted twice; what ended while no agent ran is counted."""
    await book.count(book.ended("a", ran_s=None))
    await book.counters.flush((book.hold,), at_once=True)
    first = book.ended("a", ran_s=None)
    late = replace(book.ended("late", ran_s=0.5), created_ns=book.clock.now_ns())
    await book.clock.advance(20)
    book.restarted()
    while_away = book.ended("b", ran_s=None)
    running_then = book.ended("late", ran_s=19.5)
    await book.count(first, late, running_then, while_away)
    assert book.figures() == (2, 1, 0, 19_500)
    await book.clock.advance(1)
    await book.count(first, running_then, while_away, book.ended("c", ran_s=None))
    assert book.figures() == (3, 1, 0, 19_500)


async def test_a_pod_that_is_gone_is_forgotten(book: Book) -> None:
    """A node that runs for years keeps no list of the containers of all its pods."""
    await book.count(book.ended("a", ran_s=None))
    book.counters.keep_only({"another"})
    assert (book.counters._known, book.counters._counted_ns) == ({}, {})


async def test_counts_that_cannot_be_recorded_wait(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are a courtesy (P9): no error leaves, and the next entry has them all."""
    await book.count(book.ended("a", ran_s=None))
    book.counters.count_resets(GATED, 2)
    honest = book.log.append

    def full(entry: bytes, *, urgent: bool = False) -> int:
        raise StateUnwritable("expected room, got none")

    monkeypatch.setattr(book.log, "append", full)
    await book.counters.flush((book.hold,))
    assert book.figures() == (1, 0, 2, 0)
    monkeypatch.setattr(book.log, "append", honest)
    await book.clock.advance(bounds.ENFORCED_EVERY_S)
    await book.counters.flush((book.hold,))
    assert book.recorded() == [Enforced(id="one", attempts=1, stops=0, resets=2, leaked_ms=0)]
    assert book.figures() == (1, 0, 2, 0)


async def test_a_broken_log_is_not_hidden(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flush goes on, and the journal says that it is broken: the daemon ends by that."""
    book.counters.count_resets(GATED, 1)

    def broken(entry: bytes, *, urgent: bool = False) -> int:
        raise LogUnknown("expected a sync, got an error")

    monkeypatch.setattr(book.log, "append", broken)
    await book.counters.flush((book.hold,))
    assert book.journal.broken.is_set()


async def test_counts_are_whole_while_they_are_recorded(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is in the state before `record` returns: it is counted once, before and after."""
    book.counters.count_resets(GATED, 1)
    honest, seen = book.journal.record, []

    async def record(body: Enforced) -> int:
        seen.append(book.figures())
        index = await honest(body)
        seen.append(book.figures())
        return index

    monkeypatch.setattr(book.journal, "record", record)
    await book.counters.flush((book.hold,), at_once=True)
    assert [*seen, book.figures()] == [(0, 0, 1, 0)] * 3
