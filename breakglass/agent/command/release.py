# SPDX-License-Identifier: Apache-2.0
"""Carry out a release or an extension of this node's holds.

A release records the end of each hold that it selects, and then puts back the limits of every pod
that no other hold covers.  kubelet starts such a pod again when its back-off is over, after at most
five minutes.  Limits that a release could not put back are tried again by the watch.

An extension never shortens.  Neither touches a container.
"""

from breakglass.agent.clock import Clock
from breakglass.agent.command.results import finished
from breakglass.agent.hold.counters import HoldCounters
from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.hold.gates import PodGates
from breakglass.agent.hold.leases import RELEASED, Leases
from breakglass.core.command import Command, Mode, Verb
from breakglass.core.entries import Finished
from breakglass.core.holds import Hold
from breakglass.core.reasons import Reason

_BACK = "kubelet starts them again when its back-off is over, within 5 minutes"


class ReleaseCommand:
    """Releases and extends this node's holds."""

    def __init__(
        self,
        *,
        leases: Leases,
        coverage: Coverage,
        gates: PodGates,
        counters: HoldCounters,
        clock: Clock,
    ) -> None:
        self._leases = leases
        self._coverage = coverage
        self._gates = gates
        self._counters = counters
        self._clock = clock

    async def carry_out(self, command: Command) -> Finished:
        """Carry out a release or an extension, and return its *finished* entry."""
        begun_ms = self._clock.monotonic_ms()
        meant = self._leases.meant_by(command)
        ended = self._leases.ended_by(command.id)  # ended by this command before a crash
        if not meant and not ended:
            return finished(
                command,
                self._clock,
                begun_ms,
                "nothing",
                code="no-hold",
                note=f"this node has no active hold of {command.action.workload} that it selects",
            )
        names = ", ".join(_told(hold) for hold in (*meant, *ended))
        if command.mode is Mode.DRY_RUN:
            note = f"would {command.action.verb} {names}"
            return finished(command, self._clock, begun_ms, "planned", note=note)
        if command.action.verb is Verb.EXTEND:
            for hold in meant:
                await self._leases.extend(hold, command)
            return finished(
                command,
                self._clock,
                begun_ms,
                "extended",
                note=names,
                held=len(self._coverage.kept_by(meant)),
            )
        return await self._release(command, begun_ms, meant, names)

    async def _release(
        self, command: Command, begun_ms: int, meant: tuple[Hold, ...], names: str
    ) -> Finished:
        pods = len(self._coverage.kept_only_by(meant))
        if pods > command.caps.max_pods_per_node:
            return finished(
                command,
                self._clock,
                begun_ms,
                "refused",
                code=str(Reason.TOO_MANY_PODS),
                note=f"expected at most {command.caps.max_pods_per_node} held pods, got {pods}",
            )
        for hold in meant:
            await self._counters.flush((hold,), at_once=True)
            await self._leases.end(hold, RELEASED, by=command.id)
        failed = await self._gates.lift_uncovered()
        let_go = pods - len(failed)
        note = f"{names}; {let_go} pods let go: {_BACK}" if let_go else f"{names}; no pod let go"
        return finished(
            command,
            self._clock,
            begun_ms,
            "incomplete" if failed else "released",
            code="gate-not-lifted" if failed else "",
            note="; ".join([note, *failed]),
            pods=pods,
        )


def _told(hold: Hold) -> str:
    revision = f"@{hold.workload.revision}" if hold.workload.revision else ""
    return f"hold {hold.id} of {hold.workload.namespace}/{hold.workload.name}{revision}"
