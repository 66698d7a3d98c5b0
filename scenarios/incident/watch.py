# SPDX-License-Identifier: Apache-2.0
"""Check for `make incident` that the workload stays down, without trusting the agent's report.

A hold counts as kept when no witness wrote a line after the stop, and containerd reports no running
container of the workload.  It counts as tested only when kubelet asked containerd to start one
meanwhile.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from lab.kubernetes.node import KubeNode, Tick
from scenarios.incident.world import BYSTANDER, FLOOD
from scenarios.stage import StoryFailed

TICK_S = 0.05  # a witness writes one line for each such interval in which its code runs
_LOOK_S = 0.5
_ALIVE_S = 10.0


@dataclass(slots=True, kw_only=True)
class Watch:
    """Checks the nodes since a stop.

    Attributes:
        nodes: the nodes to watch.
        approving: when the second approval began, in seconds since the epoch.
        since: when the stop was reported as done, in seconds since the epoch.
        spared: UIDs of pods that are not held, such as those of another revision.
    """

    nodes: Sequence[KubeNode]
    approving: float
    since: float
    spared: frozenset[str] = frozenset()

    def lines(self, node: KubeNode) -> list[Tick]:
        """Return the lines that held pods on this node have written since they were stopped.

        A pod was stopped when its witness got TERM, shortly before the stop was reported as done.
        A restart between the two counts as a line too.
        """
        later = [one for one in node.ticks(FLOOD) if one.at > self.approving]
        ends = [one.at for one in later if one.what == "term"]
        stopped = min([self.since, *ends])
        return [one for one in later if one.at > stopped and one.uid not in self.spared]

    def leaked_ms(self) -> float:
        """Return for how long held pods' code ran since the stop, on all nodes together."""
        return sum(len(self.lines(node)) for node in self.nodes) * TICK_S * 1000

    def attempts(self, *, since: float = 0.0) -> dict[str, int]:
        """Return the number of kubelet's attempts on each node, since the stop or later."""
        start = max(since, self.since)
        return {node.name: len(node.attempts(FLOOD, since=start)) for node in self.nodes}

    def check(self) -> None:
        """Check every node once.

        Raises:
            StoryFailed: code of a held pod ran, or the bystander's code does not run.
        """
        for node in self.nodes:
            if lines := self.lines(node):
                late = lines[0].at - self.since
                raise StoryFailed(
                    f"code of {FLOOD} ran on {node.name} after the stop:"
                    f" {len(lines)} lines, the first {late:.2f} s after it"
                )
            if running := self._running(node):
                raise StoryFailed(
                    f"containers of {FLOOD} run on {node.name}, in the pods {running}"
                )
            quiet = time.time() - node.ticks(BYSTANDER)[-1].at
            if quiet > _ALIVE_S:
                raise StoryFailed(
                    f"{BYSTANDER} on {node.name} has written nothing for {quiet:.1f} s"
                )

    def keep(self, seconds: float) -> None:
        """Check the nodes repeatedly for this long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            time.sleep(_LOOK_S)

    def keep_until(self, is_so: Callable[[], bool], what: str, limit_s: float) -> float:
        """Check the nodes until `is_so` returns true; return how long that took, in seconds.

        Raises:
            StoryFailed: `limit_s` has passed, or a check failed.
        """
        began = time.monotonic()
        while not is_so():
            self.check()
            if time.monotonic() - began > limit_s:
                raise StoryFailed(f"timed out after {limit_s:.0f} s waiting for {what}")
            time.sleep(_LOOK_S)
        return time.monotonic() - began

    def keep_until_tried(self, since: float, limit_s: float) -> dict[str, int]:
        """Check until kubelet has tried on every node since `since`; return its attempts."""
        self.keep_until(
            lambda: all(self.attempts(since=since).values()),
            "an attempt of kubelet on every node",
            limit_s,
        )
        return self.attempts(since=since)

    def _running(self, node: KubeNode) -> list[str]:
        try:
            uids = {one.labels["io.kubernetes.pod.uid"] for one in node.running(FLOOD)}
        except grpc.RpcError:  # containerd is restarting; the witnesses' lines do not need it
            return []
        return sorted(uids - self.spared)
