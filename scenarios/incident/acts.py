# SPDX-License-Identifier: Apache-2.0
"""The acts of `make incident`, in the order in which `python -m scenarios.incident` plays them.

Each act checks what it says against the witnesses' lines and containerd's log, and never only
against the agent's report.  The first failed check raises `StoryFailed`.
"""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lab.kubernetes import texts
from lab.kubernetes.cluster import CONTROL
from lab.kubernetes.node import Attempt, KubeNode
from scenarios.bastion import Delivered
from scenarios.incident.watch import Watch
from scenarios.incident.world import BYSTANDER, FLOOD, WORKLOAD, World
from scenarios.stage import Stage, require

_UP_S = 60.0
_QUIET_S = 10.0


@dataclass(slots=True, kw_only=True)
class Incident:
    """The acts of one run, and the figures for its last line."""

    world: World
    minutes: float
    patience_s: float
    plain_s: float = 0.0
    held: Delivered | None = None
    blocked: int = 0
    leaked_ms: float = 0.0
    back_s: float = 0.0

    @property
    def stage(self) -> Stage:
        """The stage that prints the story."""
        return self.world.stage

    # --- the acts --------------------------------------------------------------------------

    def peacetime(self) -> None:
        """Start two DaemonSets and an agent on each of the two nodes."""
        stage, world = self.stage, self.world
        stage.act("Before the incident: two nodes, agents, and the DaemonSet that will flood")
        for node in world.nodes:
            stage.say(f"{node.name}: containerd {node.version}, kubelet, its own network namespace")
        world.prepare()
        world.cluster.apply(texts.daemonset(BYSTANDER))
        world.cluster.apply(texts.daemonset(FLOOD, flood=CONTROL))
        for name in (BYSTANDER, FLOOD):
            began = time.monotonic()
            running = partial(_run_everywhere, world.nodes, name)
            stage.wait_until(f"pods of {name} on every node", running, _UP_S)
            took = time.monotonic() - began
            stage.say(f"pods of {name} run on every node (after {took:.1f} s)")

    def flooded(self) -> None:
        """Measure the flood, then kill the API server and etcd."""
        stage, world = self.stage, self.world
        stage.act(f"The incident: {FLOOD} floods the API server, and the API server goes down")
        rate = world.handshakes_per_s()
        stage.say(f"clients begin {rate:.0f} TLS handshakes a second and complete none")
        require(rate >= 1, f"expected a flood, got {rate:.1f} handshakes a second")
        world.cluster.lose_api()
        stage.say("API server and etcd are killed; kubectl does not work from now on")
        require(not world.cluster.answers(), "the API server answers although it was killed")

    def undone(self) -> None:
        """Stop without a hold, and wait until kubelet has restarted the pods."""
        stage, world = self.stage, self.world
        stage.act("Stop without a hold: kubelet restarts the pods")
        plain = world.deliver("stop", WORKLOAD, "--hold", "0s", reason="it floods the API server")
        again = {}
        for node in world.nodes:
            stage.wait_until("a restart", partial(_restarted, node, plain.approving), _UP_S)
            line = next(one for one in reversed(node.ticks(FLOOD)) if one.what == "start")
            again[node.name] = line.at - plain.approving
        self.plain_s = min(again.values())
        shown = ", ".join(f"{name} {late:.1f} s" for name, late in again.items())
        stage.say(f"the pods' code runs again, counted from the second approval: {shown}")

    def hold(self) -> Watch:
        """Stop with a hold of two hours; return the watch that checks it from now on."""
        stage, world = self.stage, self.world
        stage.act("Stop with a hold")
        self.held = world.deliver(
            "stop", WORKLOAD, "--hold", "2h", "--grace", "5s", reason="it floods the API server"
        )
        took_ms = self.held.took_s * 1000
        stage.say(f"from the second approval until all pods were seen down: {took_ms:.0f} ms")
        watch = Watch(nodes=world.nodes, approving=self.held.approving, since=self.held.down)
        watch.check()
        world.expect_holds(1)
        return watch

    def limits(self) -> dict[str, str]:
        """Return the limits, before the hold, of the pod that is released at the end."""
        node = self.world.nodes[1]
        return node.limits(node.ticks(FLOOD)[-1].uid)

    def kubelet_tries(self, watch: Watch) -> None:
        """Let kubelet try for minutes; kill and restart the agents and containerd meanwhile."""
        stage, world = self.stage, self.world
        stage.act(f"kubelet tries for {self.minutes:g} minutes; agents and containerd are killed")
        stage.say(f"attempts of kubelet: {watch.keep_until_tried(watch.since, self.patience_s)}")
        for node in world.nodes:
            world.kill_agent(node)
        since = time.time()
        stage.say("both agents killed (SIGKILL)")
        tried = watch.keep_until_tried(since, self.patience_s)
        stage.say(f"attempts of kubelet without an agent: {tried}")
        for node in world.nodes:
            world.start_agent(node)
        world.expect_holds(1)
        stage.say("both agents started again; each still has its hold")
        since = time.time()
        for node, number in zip(world.nodes, (signal.SIGTERM, signal.SIGKILL), strict=True):
            node.containerd.restart(number)
            node.containerd.until(node.answers)
            stage.say(f"containerd of {node.name} restarted ({number.name})")
        stage.say(f"attempts of kubelet since: {watch.keep_until_tried(since, self.patience_s)}")
        watch.keep(self.minutes * 60 - (time.time() - watch.since))
        tried = watch.attempts()
        after_s = time.time() - watch.since
        stage.say(f"{after_s:.0f} s after the stop, attempts of kubelet in all: {tried}")
        world.bastion.breakglass("holds")

    def kubelet_restarts(self, watch: Watch) -> None:
        """Restart kubelet without the API server, bring that back, then kill kubelet."""
        stage, world = self.stage, self.world
        stage.act("kubelet restarts, the API server comes back, kubelet is killed")
        for node in world.nodes:
            node.kubelet.restart(signal.SIGTERM)
        watch.keep(_QUIET_S)
        stage.say("kubelets restarted (SIGTERM) without an API server: pods still down")
        since = time.time()
        world.cluster.bring_api_back()
        stage.say("API server and etcd are running again")
        stage.say(f"attempts of kubelet: {watch.keep_until_tried(since, self.patience_s)}")
        rate = world.handshakes_per_s()
        stage.say(f"incomplete TLS handshakes at the API server now: {rate:.1f} a second")
        require(rate <= 1, f"expected no flood, got {rate:.1f} handshakes a second")
        since = time.time()
        for node in world.nodes:
            node.kubelet.restart(signal.SIGKILL)
        stage.say("kubelets killed (SIGKILL) and started again")
        stage.say(f"attempts of kubelet: {watch.keep_until_tried(since, self.patience_s)}")

    def replaced(self, watch: Watch) -> None:
        """Delete a held pod; the controller makes another with a new UID, which must not start."""
        stage, world, node = self.stage, self.world, self.world.nodes[0]
        stage.act("A held pod is deleted; the controller makes a new one, which is held too")
        old = world.pod_on(node)
        since = time.time()
        world.cluster.delete(old)
        watch.keep_until(lambda: world.has_new_pod(node, old), "a new pod", _UP_S)
        new = world.pod_on(node)
        stage.say(f"on {node.name} pod {new.uid} replaces pod {old.uid}")
        what = "kubelet to ask for a sandbox"
        watch.keep_until(lambda: bool(_sandboxes(node, since)), what, self.patience_s)
        watch.keep(_QUIET_S)
        tried = len(_sandboxes(node, since))
        stage.say(
            f"kubelet asked {tried} times for a sandbox for the new pod; none of its code ran"
        )

    def rolled_forward(self, watch: Watch) -> None:
        """Hold only the bad revision, release the first hold, and roll out the fixed revision."""
        stage, world, (first, second) = self.stage, self.world, self.world.nodes
        stage.act("The fixed revision rolls out while the bad one is held")
        bad = world.pod_on(second).revision
        # No pod runs that the command could stop, so `run` may exit with 4; the hold begins anyway.
        world.deliver(
            "stop",
            f"{WORKLOAD}@{bad}",
            *("--hold", "2h", "--grace", "5s"),
            reason="only the bad revision",
            expect=(0, 4),
        )
        world.expect_holds(2)
        whole = world.id_of(self.held) if self.held else ""
        world.deliver(
            "release", WORKLOAD, "--command", whole, reason="the revision is held by name"
        )
        world.expect_holds(1)
        watch.keep(_QUIET_S)
        stage.say("the hold on the whole workload is released; the hold on the revision remains")
        self.blocked += len(first.attempts(FLOOD, since=watch.since))  # later ones may succeed
        world.cluster.apply(texts.daemonset(FLOOD, release=2))
        world.cluster.delete(world.pod_on(first))
        since = time.time()
        stage.wait_until(
            f"the fixed revision on {first.name}",
            lambda: any(line.at > since for line in first.ticks(FLOOD)),
            _UP_S,
        )
        fixed = world.pod_on(first)
        require(fixed.revision != bad, f"the new pod on {first.name} still has the revision {bad}")
        watch.spared = frozenset({fixed.uid})
        stage.say(f"the fixed revision runs on {first.name} after {time.time() - since:.1f} s")
        watch.keep(_QUIET_S)
        stage.say(f"revision {bad} stays down on {second.name}")

    def released(self, watch: Watch, limits: dict[str, str]) -> None:
        """Release the hold; check that the old pod runs again with its former limits."""
        stage, world, node = self.stage, self.world, self.world.nodes[1]
        stage.act("The release")
        self.leaked_ms = watch.leaked_ms()
        before = node.attempts(FLOOD, since=watch.since)
        self.blocked += len(before)
        released = world.deliver("release", WORKLOAD, reason="fixed, and rolled out")
        what = f"code of the released pod on {node.name}"
        stage.wait_until(what, lambda: watch.lines(node), self.patience_s)
        self.back_s = watch.lines(node)[0].at - released.approving
        stage.say(f"the released pod's code runs {self.back_s:.1f} s after the second approval")
        world.expect_holds(0)
        found = node.limits(world.pod_on(node).uid)
        require(found == limits, f"expected the former limits {limits}, got {found}")
        starts = sum(one.what == "StartContainer" for one in node.attempts(FLOOD))
        what = "kubelet to report a restart"
        restarts = stage.wait_until(what, lambda: world.pod_on(node).restarts, _UP_S)
        require(restarts <= starts, f"expected 1 to {starts} restarts, got {restarts}")
        stage.say(f"its limits are as before the hold; kubectl shows {restarts} restarts")

    def figures(self) -> str:
        """Return the figures for the last line."""
        took_s = self.held.took_s if self.held else 0.0
        return (
            f"{len(self.world.nodes)} nodes, second approval to all seen down"
            f" {took_s * 1000:.0f} ms, user code after the stop {self.leaked_ms:.0f} ms"
            f" (without a hold again after {self.plain_s:.1f} s), {self.blocked} attempts blocked,"
            f" release to back {self.back_s:.1f} s"
        )

    def nothing_left(self) -> None:
        """Check one shim and one cgroup for each pod, and verify every log."""
        stage, world = self.stage, self.world
        stage.act("Afterwards: nothing is left on the nodes, and every log verifies")
        for node in world.nodes:
            what = f"one shim and one cgroup for each pod on {node.name}"
            stage.wait_until(what, partial(_is_tidy, node), _UP_S)
            pods = len(node.sandboxes())
            stage.say(
                f"{node.name}: {pods} pods, {len(node.shims())} shims, no cgroup without a pod"
            )
        world.bastion.breakglass("log", "verify")


def _run_everywhere(nodes: Sequence[KubeNode], name: str) -> bool:
    return all(node.ticks(name) for node in nodes)


def _restarted(node: KubeNode, since: float) -> bool:
    return any(line.what == "start" and line.at > since for line in node.ticks(FLOOD))


def _sandboxes(node: KubeNode, since: float) -> list[Attempt]:
    return [one for one in node.attempts(FLOOD, since=since) if one.what == "RunPodSandbox"]


def _is_tidy(node: KubeNode) -> bool:
    """Return whether a node has one shim and one cgroup for each of its pods, and no other."""
    pods = {one.metadata.uid for one in node.sandboxes()}
    return len(node.shims()) == len(pods) and set(node.pod_groups()) == pods
