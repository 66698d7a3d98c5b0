# SPDX-License-Identifier: Apache-2.0
"""The acts of `make incident`, in the order in which `python -m scenarios.incident` plays them.

Each checks what it says, from the witnesses' own lines and from containerd's log, never from the
agent's word alone; the first thing that is not so raises `StoryFailed`.
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
    """One telling, and the figures that it sums up."""

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
        """Where it is told."""
        return self.world.stage

    # --- the acts --------------------------------------------------------------------------

    def peacetime(self) -> None:
        """Two nodes, a DaemonSet and its neighbour, an agent on each node."""
        stage, world = self.stage, self.world
        stage.act("Peacetime: a Kubernetes of two nodes, and a DaemonSet that is about to go wrong")
        for node in world.nodes:
            stage.say(f"{node.name}: containerd {node.version}, kubelet, its own network")
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
        """The flood, then the end of the API server."""
        stage, world = self.stage, self.world
        stage.act(f"The night: {FLOOD} floods the API server, until it is gone")
        rate = world.handshakes_per_s()
        stage.say(f"{rate:.0f} TLS handshakes a second are begun at the API server and left there")
        require(rate >= 1, f"expected a flood, got {rate:.1f} handshakes a second")
        world.cluster.lose_api()
        stage.say("API server and etcd are killed; kubectl answers nothing from here on")
        require(not world.cluster.answers(), "expected no answer of the API server, got one")

    def undone(self) -> None:
        """The control: kubelet undoes a plain stop."""
        stage, world = self.stage, self.world
        stage.act("Stopped without a hold: kubelet undoes it")
        plain = world.deliver("stop", WORKLOAD, "--hold", "0s", reason="it floods the API server")
        again = {}
        for node in world.nodes:
            stage.wait_until("a restart", partial(_restarted, node, plain.approving), _UP_S)
            line = next(one for one in reversed(node.ticks(FLOOD)) if one.what == "start")
            again[node.name] = line.at - plain.approving
        self.plain_s = min(again.values())
        shown = ", ".join(f"{name} {late:.1f} s" for name, late in again.items())
        stage.say(f"its code runs again, after the second approval: {shown}")

    def hold(self) -> Watch:
        """The stop that stays."""
        stage, world = self.stage, self.world
        stage.act("Stopped and held")
        self.held = world.deliver(
            "stop", WORKLOAD, "--hold", "2h", "--grace", "5s", reason="it floods the API server"
        )
        stage.say(f"second approval to all seen down: {self.held.took_s * 1000:.0f} ms")
        watch = Watch(nodes=world.nodes, approving=self.held.approving, since=self.held.down)
        watch.check()
        world.expect_holds(1)
        return watch

    def limits(self) -> dict[str, str]:
        """Return the limits of the pod that is to outlive the hold, before it."""
        node = self.world.nodes[1]
        return node.limits(node.ticks(FLOOD)[-1].uid)

    def kubelet_tries(self, watch: Watch) -> None:
        """Minutes of attempts, with the agent dead for one of them, and the runtime restarted."""
        stage, world = self.stage, self.world
        stage.act(f"{self.minutes:g} minutes of kubelet's attempts; the agent dies, containerd too")
        stage.say(f"kubelet tried: {watch.keep_until_tried(watch.since, self.patience_s)}")
        for node in world.nodes:
            world.kill_agent(node)
        since = time.time()
        stage.say("both agents killed (SIGKILL)")
        stage.say(
            f"kubelet tried with no agent there: {watch.keep_until_tried(since, self.patience_s)}"
        )
        for node in world.nodes:
            world.start_agent(node)
        world.expect_holds(1)
        stage.say("both agents started again; they hold what they held")
        since = time.time()
        for node, number in zip(world.nodes, (signal.SIGTERM, signal.SIGKILL), strict=True):
            node.containerd.restart(number)
            node.containerd.until(node.answers)
            stage.say(f"containerd of {node.name} restarted ({number.name})")
        stage.say(f"kubelet tried after that: {watch.keep_until_tried(since, self.patience_s)}")
        watch.keep(self.minutes * 60 - (time.time() - watch.since))
        tried = watch.attempts()
        stage.say(f"{time.time() - watch.since:.0f} s after the stop: kubelet tried {tried}")
        world.bastion.breakglass("holds")

    def kubelet_restarts(self, watch: Watch) -> None:
        """Kubelet restarted with the API gone, the API back, kubelet killed with it there."""
        stage, world = self.stage, self.world
        stage.act("kubelet restarts, the API comes back, kubelet is killed")
        for node in world.nodes:
            node.kubelet.restart(signal.SIGTERM)
        watch.keep(_QUIET_S)
        stage.say("kubelets restarted (SIGTERM) while there was no API: still down")
        since = time.time()
        world.cluster.bring_api_back()
        stage.say("API server and etcd are back")
        stage.say(f"kubelet tried: {watch.keep_until_tried(since, self.patience_s)}")
        rate = world.handshakes_per_s()
        stage.say(f"{rate:.1f} TLS handshakes a second are left at the API server now")
        require(rate <= 1, f"expected no flood, got {rate:.1f} handshakes a second")
        since = time.time()
        for node in world.nodes:
            node.kubelet.restart(signal.SIGKILL)
        stage.say("kubelets killed (SIGKILL) and started")
        stage.say(f"kubelet tried: {watch.keep_until_tried(since, self.patience_s)}")

    def replaced(self, watch: Watch) -> None:
        """The DaemonSet's pod deleted: the controller makes another, with a new UID."""
        stage, world, node = self.stage, self.world, self.world.nodes[0]
        stage.act("A held pod is deleted; the controller makes a new one")
        old = world.pod_on(node)
        since = time.time()
        world.cluster.delete(old)
        watch.keep_until(lambda: world.has_new_pod(node, old), "a new pod", _UP_S)
        new = world.pod_on(node)
        stage.say(f"pod {old.uid} is gone, pod {new.uid} is its successor on {node.name}")
        watch.keep_until(lambda: bool(_sandboxes(node, since)), "an attempt", self.patience_s)
        watch.keep(_QUIET_S)
        tried = len(_sandboxes(node, since))
        stage.say(f"kubelet asked for a sandbox for it {tried} times; no code of it ran")

    def rolled_forward(self, watch: Watch) -> None:
        """A second command holds the bad revision alone; the first is let go; the fix runs."""
        stage, world, (first, second) = self.stage, self.world, self.world.nodes
        stage.act("The fixed revision rolls out while the bad one is held")
        bad = world.pod_on(second).revision
        # Nothing runs that it could stop, which is exit status 4; it holds all the same.
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
        stage.say("the wider hold is gone; the pods are held by the narrower one")
        self.blocked += len(first.attempts(FLOOD, since=watch.since))  # the next may succeed
        world.cluster.apply(texts.daemonset(FLOOD, release=2))
        world.cluster.delete(world.pod_on(first))
        since = time.time()
        stage.wait_until(
            f"the fixed revision on {first.name}",
            lambda: any(line.at > since for line in first.ticks(FLOOD)),
            _UP_S,
        )
        fixed = world.pod_on(first)
        require(
            fixed.revision != bad, f"expected a pod of another revision than {bad}, got one of it"
        )
        watch.spared = frozenset({fixed.uid})
        stage.say(f"the fixed revision runs on {first.name} after {time.time() - since:.1f} s")
        watch.keep(_QUIET_S)
        stage.say(f"revision {bad} stays down on {second.name}")

    def released(self, watch: Watch, limits: dict[str, str]) -> None:
        """The signed release: the old pod is back, with its limits, and nothing is left over."""
        stage, world, node = self.stage, self.world, self.world.nodes[1]
        stage.act("Released")
        self.leaked_ms = watch.leaked_ms()
        before = node.attempts(FLOOD, since=watch.since)
        self.blocked += len(before)
        released = world.deliver("release", WORKLOAD, reason="fixed, and rolled out")
        stage.wait_until(f"{node.name}'s pod back", lambda: watch.lines(node), self.patience_s)
        self.back_s = watch.lines(node)[0].at - released.approving
        stage.say(f"code of the released pod runs {self.back_s:.1f} s after the second approval")
        world.expect_holds(0)
        found = node.limits(world.pod_on(node).uid)
        require(found == limits, f"expected the limits {limits} back, got {found}")
        starts = sum(one.what == "StartContainer" for one in node.attempts(FLOOD))
        restarts = stage.wait_until("a restart count", lambda: world.pod_on(node).restarts, _UP_S)
        require(restarts <= starts, f"expected 1 to {starts} restarts, got {restarts}")
        stage.say(f"its limits are what they were; kubectl shows {restarts} restarts")

    def figures(self) -> str:
        """Return the figures of the whole."""
        took_s = self.held.took_s if self.held else 0.0
        return (
            f"{len(self.world.nodes)} nodes, second approval to all seen down"
            f" {took_s * 1000:.0f} ms, user code after the stop {self.leaked_ms:.0f} ms"
            f" (without a hold again after {self.plain_s:.1f} s), {self.blocked} attempts blocked,"
            f" release to back {self.back_s:.1f} s"
        )

    def nothing_left(self) -> None:
        """One shim for each pod, one cgroup for each pod, every log verified."""
        stage, world = self.stage, self.world
        stage.act("What is left")
        for node in world.nodes:
            stage.wait_until(f"tidy {node.name}", partial(_is_tidy, node), _UP_S)
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
    """Say whether a node has one shim and one cgroup for each of its pods, and no other."""
    pods = {one.metadata.uid for one in node.sandboxes()}
    return len(node.shims()) == len(pods) and set(node.pod_groups()) == pods
