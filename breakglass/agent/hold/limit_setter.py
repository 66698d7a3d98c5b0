# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of a gate: which group it is on, its limits set, proven and put back.

What can block runs in a thread.  A limit that cannot be set keeps no other from being set, and is
reported with the proof: a gate is what `GroupLimits.standing` proves, never what was written.
"""

import asyncio
from dataclasses import dataclass

from breakglass.agent.kernel.port import GroupLimits, PodGroup, PodGroups
from breakglass.core.gates import Gate, Limit, Oci
from breakglass.core.holds import GatedPod
from breakglass.core.names import printable
from breakglass.errors import GateFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStatus:
    """What holds a pod now, and what is wrong with it; "" when nothing is."""

    gate: Gate
    note: str = ""

    @classmethod
    def watch_only(cls, note: str) -> "GateStatus":
        """Return the status of a pod that no limit holds."""
        return cls(gate=Gate.WATCH_ONLY, note=note)


class LimitSetter:
    """Sets, proves and puts back the limits of pods' groups; knows no log and no holds."""

    def __init__(self, groups: PodGroups, limits: GroupLimits) -> None:
        self._groups = groups
        self._limits = limits

    def find(self, uid: str, hint: str) -> PodGroup | None:
        """Return a pod's group, or None when it has none now.

        Raises:
            GateFailed: the hint is not this pod's path (cgroup-mismatch).
        """
        return self._groups.pod_group(uid, hint)

    def group_of(self, gated: GatedPod) -> PodGroup | None:
        """Return the group that was gated, or None when that one is gone."""
        try:
            # A group outside kubelet's tree is found by its recorded path, without the runtime.
            group = self._groups.pod_group(gated.uid) or self._groups.pod_group(
                gated.uid, gated.cgroup
            )
        except GateFailed:
            return None
        same = group is not None and (group.path, group.inode) == (gated.cgroup, gated.inode)
        return group if same else None

    async def current(self, group: PodGroup, oci: Oci, *, early: bool = False) -> tuple[Limit, ...]:
        """Return the limits that would hold a pod, or the early ones, as they are now.

        Raises:
            GateFailed: there are limits, and none of them can be read (gate-unwritable).
        """
        return await asyncio.to_thread(self._limits.current, group, oci, early=early)

    def changed(self, group: PodGroup, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Return the limits that do not stand.

        Raises:
            GateFailed: one of them cannot be read (gate-unwritable).
        """
        return self._limits.changed(group, limits)

    def with_new_old_values(
        self, gated: GatedPod, group: PodGroup, changed: tuple[Limit, ...]
    ) -> tuple[Limit, ...]:
        """Return a gate's limits, with values that another process has written as their old values.

        kubelet's own podPidsLimit may come after our first write, and kubelet never repairs it.
        What systemd writes over ours in a slice is the value of its own property, and no old value.
        """
        files = {limit.kind for limit in changed} & {Gate.DESCENDANTS, Gate.PIDS}
        if not files or group.is_slice:
            return gated.limits
        now = {one.kind: one.old for one in self._limits.current(group, gated.oci)}
        return tuple(
            Limit(kind=one.kind, place=one.place, old=now[one.kind], early=one.early)
            if one.kind in files and one.kind in now
            else one
            for one in gated.limits
        )

    async def set_all(self, group: PodGroup, limits: tuple[Limit, ...]) -> list[str]:
        """Set each limit, whatever becomes of the others; return what failed."""
        failed = []
        for limit in limits:
            try:
                if limit.kind is Gate.PROPERTY:
                    await asyncio.to_thread(self._limits.set_limit, group, limit)
                else:
                    self._limits.set_limit(group, limit)
            except GateFailed as error:
                failed.append(error.message)
        return failed

    async def prove(
        self, group: PodGroup, limits: tuple[Limit, ...], oci: Oci, *failed: str
    ) -> GateStatus:
        """Return what holds a pod, and what is wrong with it: the earlier failures first."""
        try:
            if any(limit.kind is Gate.PROPERTY for limit in limits):
                # systemd may have to be asked, and nothing else must wait for it.
                gate = await asyncio.to_thread(self._limits.standing, group, limits, oci)
            else:
                gate = self._limits.standing(group, limits, oci)
        except GateFailed as error:
            return GateStatus.watch_only("; ".join([*failed, error.message]))
        stands = [] if gate is not Gate.WATCH_ONLY else ["no limit is proven to stand"]
        return GateStatus(gate=gate, note="; ".join([*failed, *stands]))

    async def put_back(self, group: PodGroup, limits: tuple[Limit, ...]) -> None:
        """Put all old values back, the limit that was set first last.

        Raises:
            GateFailed: one could not be put back; those after it still stand.
        """
        for limit in reversed(limits):
            await asyncio.to_thread(self._limits.lift, group, limit)

    async def reset_scopes(self, group: PodGroup) -> str:
        """Reset what crun has left of starts that failed under systemd; return what came of it."""
        try:
            scopes = await asyncio.to_thread(self._limits.reset_failed, group)
        except GateFailed as error:
            return f"failed scopes are left: {printable(error.message)}"
        return f"{scopes} failed scopes reset" if scopes else ""
