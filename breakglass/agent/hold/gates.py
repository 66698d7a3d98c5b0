# SPDX-License-Identifier: Apache-2.0
"""Keeping pods down in the kernel: the only writer of the limits that make a gate.

- Recorded before done: a gate's old values are durable before they are overwritten, and stay in the
  log's state until they are back.
- A gate is what `Kernel.standing` proves, never what was written.
- A pod whose group cannot be gated is said to be watched only.
- One pod's gate is changed by one at a time.  Whether a hold is still there is looked at with the
  same turn that its end takes.

Which pods these are is for `holds` and `watch`.
"""

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import structlog

from breakglass.agent.kernel.port import Kernel, PodGroup
from breakglass.agent.log.journal import Journal
from breakglass.agent.runtime.oci import OciRuntimes
from breakglass.core.gates import Gate, Limit, Oci
from breakglass.core.hold_entries import GateIntended, GateLifted, GateLimit, GateSeen
from breakglass.core.holds import GatedPod, Hold
from breakglass.core.pods import Pod
from breakglass.errors import GateFailed

RELEASED, GONE = "released", "gone"

Locks: TypeAlias = MutableMapping[str, asyncio.Lock]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStatus:
    """What holds a pod now, and what is wrong with it; "" when nothing is."""

    gate: Gate
    note: str = ""


class PodGates:
    """The gates of this node's pods.

    Args:
        journal: where intents and results are recorded.
        kernel: what limits are set through.
        programs: which program makes a pod's containers.
        turns: one lock for each pod and each hold.
        keeper: gives an active hold that covers a gated pod, or None, as things are now.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        kernel: Kernel,
        programs: OciRuntimes,
        locks: Locks,
        keeper: Callable[[GatedPod], Hold | None],
    ) -> None:
        self._journal = journal
        self._kernel = kernel
        self._programs = programs
        self._locks = locks
        self._keeper = keeper
        self._tight: set[str] = set()  # pods whose late limits were set, since this agent runs
        self._complete: set[str] = set()  # pods whose late limits were looked up
        self._log = structlog.get_logger("gates")

    async def describe(self, pod: Pod, *, ask: bool = True) -> str:
        """Return in words which limits would hold a pod, and on which group."""
        oci, hint = await self._programs.of(pod, ask=ask)
        try:
            group = self._kernel.pod_group(pod.uid, hint)
            limits = await asyncio.to_thread(self._kernel.limits, group, oci) if group else ()
        except GateFailed as error:
            return f"{Gate.WATCH_ONLY}: {ascii(error.message)[1:-1]}"
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
        oci, hint = await self._programs.of(pod, ask=ask)
        async with self._locks[pod.uid]:
            try:
                group = self._kernel.pod_group(pod.uid, hint)
                if group is None:
                    return GateStatus(gate=Gate.WATCH_ONLY, note="no control group")
                limits = await self._intended(pod, hold, group, oci, early=not ask)
                if limits is None:
                    return GateStatus(gate=Gate.WATCH_ONLY, note="its hold has ended")
                if not limits:
                    return GateStatus(gate=Gate.WATCH_ONLY, note=f"no gate holds {oci} here")
            except GateFailed as error:
                return GateStatus(gate=Gate.WATCH_ONLY, note=error.message)
            failed = await self._set(group, tuple(limit for limit in limits if limit.early))
            return await self._proven(group, limits, oci, *failed)

    async def tighten(self, uid: str) -> GateStatus:
        """Set what does not stand yet of a pod that is down, and return what holds it."""
        async with self._locks[uid]:
            gated = self._journal.state.gates.get(uid)
            group = self._group(gated) if gated else None
            if gated is None or group is None:
                return GateStatus(gate=Gate.WATCH_ONLY, note="no control group")
            try:
                missing = self._kernel.changed(group, gated.limits)
            except GateFailed:
                missing = gated.limits
            failed = await self._set(group, missing)
            self._tight.add(uid)
            return await self._proven(group, gated.limits, gated.oci, *failed)

    async def learn(self, gated: GatedPod, pod: Pod) -> None:
        """Note which program makes a pod's containers, where that was not known at its birth."""
        oci, _ = await self._programs.of(pod, ask=True)
        if oci is Oci.UNKNOWN:
            return
        async with self._locks[gated.uid]:
            if self._journal.state.gates.get(gated.uid) == gated:
                await self._intend(replace(gated, oci=oci))

    async def complete(self, gated: GatedPod) -> None:
        """Add to a gate the limits that there was no time to look up at its pod's birth."""
        if gated.uid in self._complete or any(not one.early for one in gated.limits):
            return
        async with self._locks[gated.uid]:
            group = self._group(gated)
            if group is None or self._journal.state.gates.get(gated.uid) != gated:
                return
            try:
                limits = await asyncio.to_thread(self._kernel.limits, group, gated.oci)
            except GateFailed:
                return  # a second belt only, and the next tick asks again
            ours = {one.kind for one in gated.limits}  # what they read as now is ours
            late = tuple(one for one in limits if one.kind not in ours)
            self._complete.add(gated.uid)
            if late:
                self._tight.discard(gated.uid)  # these are set for the first time, by `mend`
                await self._intend(replace(gated, limits=(*gated.limits, *late)))

    async def mend(self, gated: GatedPod, *, prove: bool) -> int:
        """Set what does not stand; return how many limits somebody else had changed."""
        async with self._locks[gated.uid]:
            group = self._group(gated)
            if group is None or not self._is_ours(gated):
                return 0
            try:
                changed = self._kernel.changed(group, gated.limits)
            except GateFailed as error:
                await self.note(gated, GateStatus(gate=Gate.WATCH_ONLY, note=error.message))
                return 0
            gated = await self._with_their_values(gated, group, changed)
            resets, failed = 0, []
            for limit in changed:
                problems = await self._set(group, (limit,))
                failed.extend(problems)
                # The late limits of a pod that was gated at birth are set here for the first time.
                if not problems and (limit.early or gated.uid in self._tight):
                    self._log.warning("limit changed by somebody else", place=limit.place)
                    resets += 1
            self._tight.add(gated.uid)
            if prove and group.is_slice:
                await self._reset_scopes(group)  # before they are so many that systemd is slowed
            if changed or prove or not gated.gate:
                await self.note(gated, await self._proven(group, gated.limits, gated.oci, *failed))
            return resets

    async def _with_their_values(
        self, gated: GatedPod, group: PodGroup, changed: tuple[Limit, ...]
    ) -> GatedPod:
        """Return a gate whose old values are what somebody has written since, kubelet above all.

        kubelet's own podPidsLimit may come after our first write, and it never repairs it.
        """
        files = {limit.kind for limit in changed} & {Gate.DESCENDANTS, Gate.PIDS}
        if not files or group.is_slice:
            return gated  # systemd writes its own values over ours, and they are nobody's will
        now = {one.kind: one for one in self._kernel.limits(group, gated.oci) if one.kind in files}
        limits = tuple(
            replace(one, old=now[one.kind].old) if one.kind in now else one for one in gated.limits
        )
        fresh = replace(gated, limits=limits)
        if fresh != gated:
            await self._intend(fresh)
        return fresh

    async def note(self, gated: GatedPod, seen: GateStatus) -> None:
        """Record what holds a pod, where that is news."""
        if (gated.gate, gated.note) != (seen.gate, seen.note):
            body = GateSeen(uid=gated.uid, gate=str(seen.gate), note=ascii(seen.note)[1:-1])
            await self._journal.record(body)

    def exists(self, gated: GatedPod) -> bool:
        """Return whether the group that was gated is still there, the same one."""
        return self._group(gated) is not None

    async def lift(self, gated: GatedPod) -> str:
        """Put one pod's old values back, descendants last; return what failed, "" for nothing.

        A pod whose group is gone has nothing to put back: its limits went with it.  One that has
        come under another hold while this waited for its turn keeps its gate.
        """
        async with self._locks[gated.uid]:
            if not self._is_gated(gated):
                return ""
            group = self._group(gated)
            if group is None:
                await self._journal.record(GateLifted(uid=gated.uid, why=GONE, note=""))
                return ""
            if self._keeper(gated) is not None:
                return ""
            try:
                for limit in reversed(gated.limits):
                    await asyncio.to_thread(self._kernel.lift, group, limit)
            except GateFailed as error:
                await self.note(
                    gated, GateStatus(gate=Gate(gated.gate or Gate.WATCH_ONLY), note=error.message)
                )
                return error.message
            note = await self._reset_scopes(group)
            await self._journal.record(GateLifted(uid=gated.uid, why=RELEASED, note=note))
            self._tight.discard(gated.uid)
            self._complete.discard(gated.uid)
            return ""

    async def _reset_scopes(self, group: PodGroup) -> str:
        """Reset what crun has left of starts that failed under systemd; return what came of it."""
        try:
            scopes = await asyncio.to_thread(self._kernel.reset_failed, group)
        except GateFailed as error:
            return f"failed scopes are left: {ascii(error.message)[1:-1]}"
        return f"{scopes} failed scopes reset" if scopes else ""

    async def _intended(
        self, pod: Pod, hold: Hold, group: PodGroup, oci: Oci, *, early: bool
    ) -> tuple[Limit, ...] | None:
        """Return the limits of a pod's gate, their old values being durable; None for no hold.

        With `early` only those that need no time, and `complete` adds the others.
        """
        known = self._journal.state.gates.get(pod.uid)
        if known and (known.cgroup, known.inode) == (group.path, group.inode):
            return known.limits  # never what the file says now: that is ours
        limits = await asyncio.to_thread(self._kernel.limits, group, oci, early=early)
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
            self._tight.discard(pod.uid)
            self._complete.discard(pod.uid)
        return limits

    async def _intend(self, gated: GatedPod) -> bool:
        """Record a gate that is about to be set; not when no hold is there for it any more.

        Where the hold that it was set for first is over, it is the one's that covers the pod now.
        """
        if not self._journal.state.holds[gated.hold].is_active:
            keeper = self._keeper(gated)
            if keeper is None:
                return False
            gated = replace(gated, hold=keeper.id)
        async with self._locks[gated.hold]:
            if not self._journal.state.holds[gated.hold].is_active:
                return False
            await self._journal.record(_intent(gated))
            return True

    async def _set(self, group: PodGroup, limits: tuple[Limit, ...]) -> list[str]:
        """Set each limit, whatever becomes of the others; return what failed."""
        failed = []
        for limit in limits:
            try:
                if limit.kind is Gate.PROPERTY:
                    await asyncio.to_thread(self._kernel.set_limit, group, limit)
                else:
                    self._kernel.set_limit(group, limit)
            except GateFailed as error:
                failed.append(error.message)
        return failed

    async def _proven(
        self, group: PodGroup, limits: tuple[Limit, ...], oci: Oci, *failed: str
    ) -> GateStatus:
        """Return what holds a pod, and what is wrong with that: what failed before, above all."""
        try:
            if any(limit.kind is Gate.PROPERTY for limit in limits):
                # systemd may have to be asked, and must not be waited for by everybody else.
                gate = await asyncio.to_thread(self._kernel.standing, group, limits, oci)
            else:
                gate = self._kernel.standing(group, limits, oci)
        except GateFailed as error:
            return GateStatus(gate=Gate.WATCH_ONLY, note="; ".join([*failed, error.message]))
        stands = [] if gate is not Gate.WATCH_ONLY else ["no limit is proven to stand"]
        return GateStatus(gate=gate, note="; ".join([*failed, *stands]))

    def _group(self, gated: GatedPod) -> PodGroup | None:
        """Return the group that was gated, or None when that one is gone."""
        try:
            # By the record where only the runtime's word has led there: nobody asks it again.
            group = self._kernel.pod_group(gated.uid) or self._kernel.pod_group(
                gated.uid, gated.cgroup
            )
        except GateFailed:
            return None
        same = group is not None and (group.path, group.inode) == (gated.cgroup, gated.inode)
        return group if same else None

    def _is_ours(self, gated: GatedPod) -> bool:
        """Return whether its limits are to stand still.

        What a broken log has taken is not known: a limit that is on its way back in there must not
        be set again, for the next start would know nothing of it.
        """
        broken = self._journal.broken.is_set()
        return self._is_gated(gated) and self._keeper(gated) is not None and not broken

    def _is_gated(self, gated: GatedPod) -> bool:
        """Return whether its limits are ours still: somebody else may have had the turn before.

        Once the log is broken nobody knows: what was lifted last may be on record as lifted.
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
