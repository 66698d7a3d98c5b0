# SPDX-License-Identifier: Apache-2.0
"""Counters of each hold: starts that failed, containers that ran, user code that ran.

Counted from the runtime's own words: a container that is new in a held pod and has ended without
ever starting is an attempt that the gate made fail; one that started ran user code from its start
to its end, by the runtime's clock.  Containers that were there when the pod came under the hold are
not counted: the command that stopped them has its own outcome.

The counts are recorded once a minute where they have changed, and at the end of a hold, so that a
kubelet that tries every second fills no log.  After a restart
the agent counts only containers that ended after the newest of those entries.  While anything is
held, an entry without counts is written every ten minutes: after a reboot a lease goes on from the
last entry.

Counts are a courtesy (P9): one that cannot be recorded waits, and keeps no hold from its end.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog

from breakglass.agent.clock import Clock
from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.log.journal import Journal
from breakglass.agent.runtime.port import Runtime
from breakglass.core import bounds
from breakglass.core.entries import parse_instant
from breakglass.core.hold_entries import Enforced
from breakglass.core.holds import GatedPod, Hold
from breakglass.core.pods import Container, ContainerState, Pod
from breakglass.errors import NodeError, RuntimeTooOld, RuntimeUnavailable

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one hold that are not recorded yet."""

    attempts: int = 0
    stops: int = 0
    resets: int = 0
    leaked_ms: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to record."""
        return not (self.attempts or self.stops or self.resets or self.leaked_ms)

    def plus(self, other: "Counts") -> "Counts":
        """Return the sum of both."""
        return Counts(
            attempts=self.attempts + other.attempts,
            stops=self.stops + other.stops,
            resets=self.resets + other.resets,
            leaked_ms=self.leaked_ms + other.leaked_ms,
        )

    def minus(self, recorded: "Counts") -> "Counts":
        """Return what is left after subtracting what was recorded."""
        return Counts(
            attempts=self.attempts - recorded.attempts,
            stops=self.stops - recorded.stops,
            resets=self.resets - recorded.resets,
            leaked_ms=self.leaked_ms - recorded.leaked_ms,
        )


class HoldCounters:
    """The counters of all holds, and the containers that are counted already."""

    def __init__(
        self, *, journal: Journal, runtime: Runtime, coverage: Coverage, clock: Clock
    ) -> None:
        self._journal = journal
        self._runtime = runtime
        self._coverage = coverage
        self._clock = clock
        self._of_hold: dict[str, Counts] = {}
        self._known: dict[str, set[str]] = {}
        self._counted_ns: dict[str, int] = {}  # until when an earlier run of the agent has counted
        self._flushed_ms: dict[str, int] = {}
        self._recording: dict[str, Counts] = {}  # what was recorded before the entry under way
        self._log = structlog.get_logger("counters")

    def now(self, hold: Hold) -> Counts:
        """Return a hold's counts, recorded and not recorded."""
        # While an entry is on its way to the disk, the state may have it and `_of_hold` still too.
        recorded = self._recording.get(hold.id, _recorded(hold))
        return recorded.plus(self._unrecorded(hold.id))

    def know(self, uid: str, container_ids: Iterable[str]) -> None:
        """Do not count these containers of a pod: they were there before it was held."""
        self._known.setdefault(uid, set()).update(container_ids)

    def forget_holds(self) -> None:
        """Forget the counts of ended holds, which were recorded at their end."""
        active = {hold.id for hold in self._coverage.active}
        self._of_hold = {key: one for key, one in self._of_hold.items() if key in active}
        self._flushed_ms = {key: one for key, one in self._flushed_ms.items() if key in active}

    def keep_only(self, uids: set[str]) -> None:
        """Forget the containers of all other pods."""
        self._known = {uid: ids for uid, ids in self._known.items() if uid in uids}
        self._counted_ns = {uid: ns for uid, ns in self._counted_ns.items() if uid in uids}

    def count_resets(self, gated: GatedPod, resets: int) -> None:
        """Count limits of a gated pod that another process had changed, for the hold that keeps it.

        The hold for which the pod was gated may be over, and another one keep it.
        """
        if resets:
            holds = self._coverage.holds_of(gated)
            self._add(holds[0].id if holds else gated.hold, Counts(resets=resets))

    def _add(self, hold_id: str, more: Counts) -> None:
        self._of_hold[hold_id] = self._unrecorded(hold_id).plus(more)

    def _unrecorded(self, hold_id: str) -> Counts:
        return self._of_hold.get(hold_id, Counts())

    async def count(self, pod: Pod, hold: Hold, *, without_runtime: bool) -> tuple[Container, ...]:
        """Count the new containers of a held pod; return those that must be stopped."""
        if not without_runtime and pod.uid not in self._known:
            since_ns = _ns(parse_instant(hold.since))
            self.know(pod.uid, (one.id for one in pod.containers if one.created_ns <= since_ns))
            self._counted_ns[pod.uid] = _ns(parse_instant(hold.counted_to))
        known = self._known.get(pod.uid, set())
        live: list[Container] = []
        for one in pod.containers:
            if one.live:
                live.append(one)
            elif one.id not in known and not without_runtime:
                ended = await self._ended(one, self._counted_ns.get(pod.uid, 0))
                if ended is not None:
                    known.add(one.id)
                    self._add(hold.id, ended)
        # A created container fails at the gate, or runs by the next look.
        return tuple(one for one in live if one.state is not ContainerState.CREATED)

    async def flush(self, holds: Iterable[Hold], *, at_once: bool = False) -> None:
        """Record the counts that have changed, at most once a minute for each hold."""
        now_ms = self._clock.monotonic_ms()
        quiet = now_ms - self._journal.state.mono_ms >= bounds.HOLD_BEAT_S * 1_000
        for hold in holds:
            due_ms = self._flushed_ms.get(hold.id, 0) + bounds.ENFORCED_EVERY_S * 1_000
            is_new = not self._unrecorded(hold.id).is_empty and (at_once or now_ms >= due_ms)
            if (is_new or quiet) and hold.id not in self._recording:
                self._flushed_ms[hold.id] = now_ms
                await self._record(hold)
                quiet = False

    async def _record(self, hold: Hold) -> None:
        counts = self._unrecorded(hold.id)
        self._recording[hold.id] = _recorded(self._journal.state.holds[hold.id])
        try:
            await self._journal.record(
                Enforced(
                    id=hold.id,
                    attempts=counts.attempts,
                    stops=counts.stops,
                    resets=counts.resets,
                    leaked_ms=counts.leaked_ms,
                )
            )
        except NodeError as error:
            self._log.error(
                "counts not recorded", id=hold.id, code=error.stable_code, error=error.message
            )
        else:
            self._of_hold[hold.id] = self._unrecorded(hold.id).minus(counts)
        finally:
            del self._recording[hold.id]

    async def _ended(self, container: Container, counted_ns: int) -> Counts | None:
        """Return the counts of an ended container, None if the runtime does not answer."""
        try:
            look = await self._runtime.container(container.id)
        except (RuntimeUnavailable, RuntimeTooOld):
            return None
        if look is None or (look.finished_ns or container.created_ns) <= counted_ns:
            return Counts()
        if look.started_ns <= 0:
            return Counts(attempts=1)
        ran_ms = max(0, look.finished_ns - look.started_ns) // _NS_PER_MS
        return Counts(stops=1, leaked_ms=ran_ms)


def _recorded(hold: Hold) -> Counts:
    return Counts(
        attempts=hold.attempts,
        stops=hold.stops,
        resets=hold.resets,
        leaked_ms=hold.leaked_ms,
    )


def _ns(time: datetime) -> int:
    return round(time.timestamp() * 1_000) * _NS_PER_MS
