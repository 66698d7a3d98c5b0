# SPDX-License-Identifier: Apache-2.0
"""What `make incident` believes: not the agent's word, but the witnesses' lines and the runtime's.

A stop counts as kept when no line of a witness is newer than it, and no container of the workload
is seen running.  It counts as tested only when kubelet asked containerd to start one meanwhile.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from lab.kubernetes.node import KubeNode, Tick
from scenarios.incident.world import BYSTANDER, FLOOD
from scenarios.stage import StoryFailed

TICK_S = 0.05  # a witness's code runs this long for each line that it writes
_LOOK_S = 0.5
_ALIVE_S = 10.0


@dataclass(slots=True, kw_only=True)
class Watch:
    """The nodes since a stop.

    Attributes:
        nodes: which are watched.
        approving: when the second approval began, seconds since the epoch.
        since: when the stop was seen done.
        spared: the pod UIDs that are not held, such as those of another revision.
    """

    nodes: Sequence[KubeNode]
    approving: float
    since: float
    spared: frozenset[str] = frozenset()

    def lines(self, node: KubeNode) -> list[Tick]:
        """Return the lines that held pods of this node have written since they were stopped.

        A pod was stopped when its witness heard TERM, some time before the stop was seen done: a
        restart between the two counts as well.
        """
        later = [one for one in node.ticks(FLOOD) if one.at > self.approving]
        ends = [one.at for one in later if one.what == "term"]
        stopped = min([self.since, *ends])
        return [one for one in later if one.at > stopped and one.uid not in self.spared]

    def leaked_ms(self) -> float:
        """Return how long held pods' code ran since the stop, on all nodes together."""
        return sum(len(self.lines(node)) for node in self.nodes) * TICK_S * 1000

    def attempts(self, *, since: float = 0.0) -> dict[str, int]:
        """Return how often kubelet tried since the stop, or since a later moment, by node."""
        start = max(since, self.since)
        return {node.name: len(node.attempts(FLOOD, since=start)) for node in self.nodes}

    def check(self) -> None:
        """Look once.

        Raises:
            StoryFailed: code of a held pod ran, or a neighbour's does not.
        """
        for node in self.nodes:
            if lines := self.lines(node):
                late = lines[0].at - self.since
                raise StoryFailed(
                    f"expected no code of {FLOOD} on {node.name} after the stop, got"
                    f" {len(lines)} lines, the first {late:.2f} s after it"
                )
            if running := self._running(node):
                raise StoryFailed(
                    f"expected no running container of {FLOOD} on {node.name}, got {running}"
                )
            quiet = time.time() - node.ticks(BYSTANDER)[-1].at
            if quiet > _ALIVE_S:
                raise StoryFailed(
                    f"expected {BYSTANDER} on {node.name} to run on, got {quiet:.1f} s of silence"
                )

    def keep(self, seconds: float) -> None:
        """Watch for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            time.sleep(_LOOK_S)

    def keep_until(self, is_so: Callable[[], bool], what: str, limit_s: float) -> float:
        """Watch until it is so; return how long that took, in seconds.

        Raises:
            StoryFailed: the time is up, or what `check` raises.
        """
        began = time.monotonic()
        while not is_so():
            self.check()
            if time.monotonic() - began > limit_s:
                raise StoryFailed(f"expected {what} within {limit_s:.0f} s, got nothing")
            time.sleep(_LOOK_S)
        return time.monotonic() - began

    def keep_until_tried(self, since: float, limit_s: float) -> dict[str, int]:
        """Watch until kubelet has tried on every node since a moment; return how often it did."""
        self.keep_until(
            lambda: all(self.attempts(since=since).values()),
            "an attempt of kubelet on every node",
            limit_s,
        )
        return self.attempts(since=since)

    def _running(self, node: KubeNode) -> list[str]:
        try:
            uids = {one.labels["io.kubernetes.pod.uid"] for one in node.running(FLOOD)}
        except grpc.RpcError:  # it is being restarted; the witness's lines need no runtime
            return []
        return sorted(uids - self.spared)
