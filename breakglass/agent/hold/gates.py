# SPDX-License-Identifier: Apache-2.0
"""The gates of this node's pods: the only writer of the limits that keep pods down.

- A gate's old values are durable before they are overwritten, and stay in the log's state until
  they are back.
- A gate is what was proven to stand, never what was written.
- A pod whose group cannot be gated is said to be watched only.
- One pod's gate is changed by one task at a time.  Whether a hold is still active is checked in the
  same step that records the intent.

`coverage` says which holds cover a pod; `limit_setter` is the kernel's side.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import structlog

from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.hold.limit_setter import GateStatus, LimitSetter
from breakglass.agent.hold.locks import KeyedLocks
from breakglass.agent.kernel.port import PodGroup
from breakglass.agent.log.journal import Journal
from breakglass.agent.runtime.oci import OciRuntimes
from breakglass.core.gates import Gate, Limit, Oci
from breakglass.core.hold_entries import GateIntended, GateLifted, GateLimit, GateSeen
from breakglass.core.holds import GatedPod, Hold
from breakglass.core.names import printable
from breakglass.core.pods import Pod
from breakglass.errors import GateFailed, StateUnwritable

RELEASED, GONE = "released", "gone"


class PodGates:
    """The gates of this node's pods.

    Args:
        journal: where intents and results are recorded.
        setter: what limits are set through.
        oci_runtimes: which program makes a pod's containers.
        coverage: which active holds cover a pod.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        setter: LimitSetter,
        oci_runtimes: OciRuntimes,
        coverage: Coverage,
    ) -> None:
        self._journal = journal
        self._setter = setter
        self._oci_runtimes = oci_runtimes
        self._coverage = coverage
        self._locks = KeyedLocks()
        self._claims: Counter[str] = Counter()  # pods that commands are bringing down
        self._late_set: set[str] = set()  # pods whose late limits this agent has set
        self._late_known: set[str] = set()  # pods whose late limits it has looked up
        self._log = structlog.get_logger("gates")

    @contextmanager
    def claim(self, uid: str) -> Iterator[None]:
        """Take a pod for a command that stops it: meanwhile the watch leaves it alone."""
        self._claims[uid] += 1
        try:
            yield
        finally:
            self._claims[uid] -= 1
            if not self._claims[uid]:
                del self._claims[uid]

    def is_claimed(self, uid: str) -> bool:
        """Return whether a command is bringing a pod down."""
        return uid in self._claims

    async def describe(self, pod: Pod, *, ask: bool = True) -> str:
        """Return in words which limits would hold a pod, and on which group."""
        oci, hint = await self._oci_runtimes.of(pod, ask=ask)
        try:
            group = self._setter.find(pod.uid, hint)
            limits = await self._setter.current(group, oci) if group else ()
        except GateFailed as error:
            return f"{Gate.WATCH_ONLY}: {printable(error.message)}"
        if group is None or not limits:
            return str(Gate.WATCH_ONLY)
        return f"{', '.join(limit.kind for limit in limits)} on {group.path}"

    async def gate(self, pod: Pod, hold: Hold, *, ask: bool = True) -> GateStatus:
        """Set the early limits of a pod's gate, and return what is proven to hold it.

        Args:
            pod: the pod, known to be covered by `hold`.
            hold: for which it is gated; it is noted as the first.
            ask: whether the runtime may be asked which program makes the pod's containers.

        Raises:
            NodeError: the intent could not be recorded; nothing was set.
        """
        oci, hint = await self._oci_runtimes.of(pod, ask=ask)
        async with self._locks.locked(pod.uid):
            try:
                group = self._setter.find(pod.uid, hint)
                if group is None:
                    return GateStatus.watch_only("no control group")
                limits = await self._intended(pod, hold, group, oci, early=not ask)
                if limits is None:
                    return GateStatus.watch_only("its hold has ended")
                if not limits:
                    return GateStatus.watch_only(f"no gate holds {oci} here")
            except GateFailed as error:
                return GateStatus.watch_only(error.message)
            early = tuple(limit for limit in limits if limit.early)
            failed = await self._setter.set_all(group, early)
            return await self._setter.prove(group, limits, oci, *failed)

    async def set_late_limits(self, uid: str) -> GateStatus:
        """Set what does not stand yet of a pod that is down, and return what holds it."""
        async with self._locks.locked(uid):
            gated = self._journal.state.gates.get(uid)
            group = self._setter.group_of(gated) if gated else None
            if gated is None or group is None:
                return GateStatus.watch_only("no control group")
            try:
                missing = self._setter.changed(group, gated.limits)
            except GateFailed:
                missing = gated.limits
            failed = await self._setter.set_all(group, missing)
            self._late_set.add(uid)
            return await self._setter.prove(group, gated.limits, gated.oci, *failed)

    async def record_oci(self, gated: GatedPod, pod: Pod) -> None:
        """Record which program makes a pod's containers, where that was unknown when it was new."""
        oci, _ = await self._oci_runtimes.of(pod, ask=True)
        if oci is Oci.UNKNOWN:
            return
        async with self._locks.locked(gated.uid):
            if self._journal.state.gates.get(gated.uid) == gated:
                await self._intend(replace(gated, oci=oci))

    async def look_up_late_limits(self, gated: GatedPod) -> None:
        """Add to a gate the limits that there was no time to look up while its pod was new."""
        if gated.uid in self._late_known or any(not one.early for one in gated.limits):
            return
        async with self._locks.locked(gated.uid):
            group = self._setter.group_of(gated)
            if group is None or self._journal.state.gates.get(gated.uid) != gated:
                return
            try:
                limits = await self._setter.current(group, gated.oci)
            except GateFailed:
                return  # a second belt only, and the next tick asks again
            ours = {one.kind for one in gated.limits}  # what they read as now is ours
            late = tuple(one for one in limits if one.kind not in ours)
            self._late_known.add(gated.uid)
            if late:
                self._late_set.discard(gated.uid)  # `repair` sets these for the first time
                await self._intend(replace(gated, limits=(*gated.limits, *late)))

    async def repair(self, gated: GatedPod, *, prove: bool) -> int:
        """Set the limits that do not stand; return how many another process had changed."""
        async with self._locks.locked(gated.uid):
            group = self._setter.group_of(gated)
            if group is None or not self._is_ours(gated):
                return 0
            try:
                changed = self._setter.changed(group, gated.limits)
            except GateFailed as error:
                await self._record_status(gated, GateStatus.watch_only(error.message))
                return 0
            gated = await self._with_new_old_values(gated, group, changed)
            resets, failed = 0, []
            for limit in changed:
                problems = await self._setter.set_all(group, (limit,))
                failed.extend(problems)
                # The late limits of a pod that was gated while new are set here for the first time.
                if not problems and (limit.early or gated.uid in self._late_set):
                    self._log.warning("limit changed by another process", place=limit.place)
                    resets += 1
            self._late_set.add(gated.uid)
            if prove and group.is_slice:
                await self._setter.reset_scopes(group)  # before their number slows systemd
            if changed or prove or not gated.gate:
                status = await self._setter.prove(group, gated.limits, gated.oci, *failed)
                await self._record_status(gated, status)
            return resets

    def exists(self, gated: GatedPod) -> bool:
        """Return whether the group that was gated is still there, the same one."""
        return self._setter.group_of(gated) is not None

    async def lift(self, gated: GatedPod) -> str:
        """Put one pod's old values back, descendants last; return what failed, "" for nothing.

        A pod whose group is gone has nothing to put back: its limits went with it.  One that has
        come under another hold while this waited for its lock keeps its gate.
        """
        async with self._locks.locked(gated.uid):
            if not self._is_gated(gated):
                return ""
            group = self._setter.group_of(gated)
            if group is None:
                await self._record_end(gated, GONE)
                return ""
            if self._coverage.holds_of(gated):
                return ""
            try:
                await self._setter.put_back(group, gated.limits)
            except GateFailed as error:
                gate = Gate(gated.gate or Gate.WATCH_ONLY)
                await self._record_status(gated, GateStatus(gate=gate, note=error.message))
                return error.message
            await self._record_end(gated, RELEASED, await self._setter.reset_scopes(group))
            return ""

    async def lift_uncovered(self) -> list[str]:
        """Put back the limits of every pod that no active hold covers; return what failed."""
        failed = []
        for gated in self._coverage.gated:
            if self.is_claimed(gated.uid) or self._coverage.holds_of(gated):
                continue
            try:
                problem = await self.lift(gated)
            except StateUnwritable as error:
                problem = error.message  # the others are let go all the same; the watch tries again
            if problem:
                failed.append(f"{gated.name}: {problem}")
        return failed

    async def _intended(
        self, pod: Pod, hold: Hold, group: PodGroup, oci: Oci, *, early: bool
    ) -> tuple[Limit, ...] | None:
        """Return the limits of a pod's gate, their old values being durable; None for no hold.

        With `early` only those that need no time, and `look_up_late_limits` adds the others.
        """
        known = self._journal.state.gates.get(pod.uid)
        if known and (known.cgroup, known.inode) == (group.path, group.inode):
            return known.limits  # never what the file says now: that is ours
        limits = await self._setter.current(group, oci, early=early)
        if limits:
            gated = GatedPod(
                uid=pod.uid,
                namespace=pod.namespace,
                name=pod.name,
                hold=hold.id,
                cgroup=group.path,
                inode=group.inode,
                oci=oci,
                limits=limits,
            )
            if not await self._intend(gated):
                return None
            self._forget_late(pod.uid)
        return limits

    async def _intend(self, gated: GatedPod) -> bool:
        """Record a gate that is about to be set; return False if no active hold covers the pod.

        If the hold that it was set for first has ended, record another one that covers the pod.
        """
        if not self._journal.state.holds[gated.hold].is_active:
            holds = self._coverage.holds_of(gated)
            if not holds:
                return False
            gated = replace(gated, hold=holds[0].id)
        index = await self._journal.record_if(
            _intent(gated), lambda state: state.holds[gated.hold].is_active
        )
        return index is not None

    async def _with_new_old_values(
        self, gated: GatedPod, group: PodGroup, changed: tuple[Limit, ...]
    ) -> GatedPod:
        fresh = replace(gated, limits=self._setter.with_new_old_values(gated, group, changed))
        if fresh != gated:
            await self._intend(fresh)
        return fresh

    async def _record_status(self, gated: GatedPod, status: GateStatus) -> None:
        """Record what holds a pod, where that is news."""
        note = printable(status.note)
        if (gated.gate, gated.note) != (status.gate, note):
            await self._journal.record(GateSeen(uid=gated.uid, gate=str(status.gate), note=note))

    async def _record_end(self, gated: GatedPod, why: str, note: str = "") -> None:
        await self._journal.record(GateLifted(uid=gated.uid, why=why, note=note))
        self._forget_late(gated.uid)

    def _forget_late(self, uid: str) -> None:
        self._late_set.discard(uid)
        self._late_known.discard(uid)

    def _is_ours(self, gated: GatedPod) -> bool:
        """Return whether its limits must still be in force."""
        return self._is_gated(gated) and bool(self._coverage.holds_of(gated))

    def _is_gated(self, gated: GatedPod) -> bool:
        """Return whether its limits are ours still: another task may have had the lock before.

        Once the log is broken that is unknown: what was lifted last may be on record as lifted, and
        a limit that was set again would be unknown to the next start.
        """
        return gated.uid in self._journal.state.gates and not self._journal.broken.is_set()


def _intent(gated: GatedPod) -> GateIntended:
    """Return the entry that stands before a gate."""
    return GateIntended(
        uid=gated.uid,
        namespace=gated.namespace,
        name=gated.name,
        hold=gated.hold,
        cgroup=gated.cgroup,
        inode=gated.inode,
        oci=str(gated.oci),
        limits=tuple(
            GateLimit(kind=str(one.kind), place=one.place, old=one.old, early=one.early)
            for one in gated.limits
        ),
    )
