# SPDX-License-Identifier: Apache-2.0
"""The *finished* entry of a command, and what a later look shows of its planned pods."""

from breakglass.agent.clock import Clock
from breakglass.core.command import Command
from breakglass.core.entries import Finished, PlannedPod, SeenPod
from breakglass.core.names import printable
from breakglass.core.pods import ContainerState, Pod


def finished(
    command: Command,
    clock: Clock,
    begun_ms: int,
    result: str,
    *,
    code: str = "",
    note: str = "",
    pods: int = 0,
    down: int = 0,
    held: int = 0,
    restarted: int = 0,
    observed: tuple[SeenPod, ...] = (),
) -> Finished:
    """Return the end of a command that began at `begun_ms`; the note is made printable."""
    return Finished(
        id=command.id,
        mode=str(command.mode),
        result=result,
        code=code,
        note=printable(note),
        pods=pods,
        down=down,
        held=held,
        restarted=restarted,
        ms=clock.monotonic_ms() - begun_ms,
        observed=observed,
    )


def observe(
    planned: tuple[PlannedPod, ...], pods: tuple[Pod, ...], *, gated: frozenset[str] = frozenset()
) -> tuple[SeenPod, ...]:
    """Return what a look shows of each planned pod.

    Args:
        planned: the pods that the command was for.
        pods: all pods, as this look shows them.
        gated: the UIDs of pods whose gate is proven: there kubelet goes on making containers, and
            one that is made and not started is about to fail.
    """
    now = {pod.uid: pod for pod in pods}
    return tuple(
        SeenPod(uid=was.uid, name=was.name, seen=_now_seen(was, now.get(was.uid), gated))
        for was in planned
    )


def _now_seen(was: PlannedPod, now: Pod | None, gated: frozenset[str]) -> str:
    """Return what a later look shows of a planned pod: gone, down, running, or restarted."""
    if now is None:
        return "gone"
    live = [one for one in now.containers if one.live]
    if any(one.id in was.containers for one in live):
        return "running"
    if was.uid in gated:
        live = [one for one in live if one.state is not ContainerState.CREATED]
    return "restarted" if live else "down"
