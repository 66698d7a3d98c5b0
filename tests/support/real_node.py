# SPDX-License-Identifier: Apache-2.0
"""A node of real things: a containerd, an agent process over it, and a test that plays kubelet.

`RuntimeOfTests` is what costs a second to start, so that tests which leave it whole may share it;
a `RealNode` is one test's own.
"""

import contextlib
import re
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.core.entries import Finished, PodEnded, parse_entry, render_entry
from breakglass.core.fold import State, fold
from breakglass.core.recheck import recheck_log
from lab import containerd as runtime
from lab.containerd import Containerd
from tests.support import played_kubelet
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.organisation import Organisation
from tests.support.played_kubelet import PlayedKubelet

T = TypeVar("T")
UNIFIED = Path("/sys/fs/cgroup/unified/cgroup.controllers")
_NO_CONTROLLERS = (
    *("unshare", "--mount", "sh", "-c"),
    f'mount --bind /dev/null {UNIFIED} && exec "$@"',
    "sh",
)
WORKLOAD = "monitoring/telemetry"
LIFE_SUPPORT = "kube-system/kube-proxy"


def why_not() -> str:
    """Say why there can be no such node here; empty when there can."""
    hybrid = UNIFIED.exists() and Path("/sys/fs/cgroup/pids").is_dir()
    here = "" if hybrid else "needs control groups of both versions, as hybrid hosts have them"
    return here or runtime.why_not() or played_kubelet.why_not()


@contextlib.contextmanager
def witnessing(folder: Path, *, for_crun: bool = False) -> Iterator[Containerd]:
    """Run a containerd that knows the witness's image.

    Args:
        folder: where its files go.
        for_crun: whether crun must be able to work, which refuses a hybrid host whose cgroup2 tree
            has a controller left: it is shown one that has none.
    """
    folder.mkdir(parents=True)
    enter = _NO_CONTROLLERS if for_crun and UNIFIED.exists() else ()
    with Containerd(folder, enter=enter) as containerd:
        witness = played_kubelet.build_witness(folder)
        containerd.add_programs({played_kubelet.WITNESS: witness})
        yield containerd


class RealNode:
    """A node; the agent runs from `start` to `close`.

    Args:
        containerd: its runtime.
        folder: where the agent's and kubelet's files are.
    """

    agent: AgentProcess

    def __init__(self, containerd: Containerd, folder: Path) -> None:
        self.containerd = containerd
        self.kubelet = PlayedKubelet(containerd, folder / "kubelet")
        self.tls = Tls.make()
        self.organisation = Organisation(
            couriers=self.tls.pins, now=datetime.now(UTC).replace(microsecond=0)
        )
        self.files = NodeFiles(
            folder=folder / "n",
            organisation=self.organisation,
            tls=self.tls,
            runtime=containerd.socket,
            protected=(LIFE_SUPPORT,),
            pod_logs=str(self.kubelet.pod_logs),
        ).write()
        self._stack = contextlib.ExitStack()

    def start(self, *program: str, ready: bool = True) -> AgentProcess:
        """Start the agent, or a program in its place, and wait until it is ready."""
        words: Sequence[str] = program or ("-m", "breakglass.cli.agent")
        self.agent = self._stack.enter_context(AgentProcess(self.files, program=words))
        return self.agent.wait_ready() if ready else self.agent

    def restart(self) -> None:
        """Kill the agent as the kernel would, and start another."""
        self.agent.kill()
        self.start()

    def close(self) -> None:
        """End the agent and take every pod away."""
        with contextlib.ExitStack() as steps:  # runs the last one first
            steps.callback(self.kubelet.close)
            for pod in self.kubelet.pods:
                steps.callback(self.kubelet.remove, pod)
            steps.push(self._stack)

    # What people sign.

    def signed(self, **command: Any) -> bytes:  # noqa: ANN401 - any of Organisation.draft's
        """Return the signed file of a command, drafted now."""
        shape = {"workload": WORKLOAD, "created": datetime.now(UTC).replace(microsecond=0)}
        return self.organisation.signed(self.organisation.command(**shape | command), "ana bo")

    def submit(self, **command: Any) -> list[pb.Progress]:  # noqa: ANN401
        """Deliver a command that two people approved, and return all that it was told."""
        return self.deliver(self.signed(**command))

    def deliver(self, raw: bytes) -> list[pb.Progress]:
        """Deliver a signed file, and return all that it was told."""
        with self.agent.local() as door:
            return door.submit(raw)

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Let the agent miss what happens meanwhile."""
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.agent.process.send_signal(signal.SIGCONT)

    def stop(self, **command: Any) -> Finished:  # noqa: ANN401
        """Stop and hold, for an hour unless told otherwise; return how it ended."""
        return finished(self.submit(**{"hold_s": 3600, "grace_s": 5} | command))

    def release(self, **command: Any) -> Finished:  # noqa: ANN401
        """Release, and return how it ended."""
        return finished(self.submit(verb="release", **command))

    # What the agent tells.

    def holds(self) -> list[pb.Hold]:
        """Return the holds in force."""
        with self.agent.local() as door:
            return list(door.call("Holds", pb.HoldsRequest(), pb.HoldsResponse).holds)

    def hold(self) -> pb.Hold:
        """Return the one hold in force."""
        (one,) = self.holds()
        return one

    def metric(self, name: str) -> float:
        """Return the sum of a metric's values over its labels."""
        with self.agent.local() as door:
            text = door.call("Metrics", pb.MetricsRequest(), pb.MetricsResponse).text
        found = re.findall(rf"^breakglass_{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        assert found, text
        return sum(map(float, found))

    def bodies(self, kind: type[T]) -> list[T]:
        """Return what the log has of one kind, in order."""
        with self.agent.local() as door:
            return [one.body for one in door.entries() if isinstance(one.body, kind)]

    def checked_state(self) -> State:
        """Check the whole log, and return the state it makes."""
        with self.agent.local() as door:
            entries = door.entries()
        raw = [render_entry(one) for one in entries]
        report = recheck_log(raw, trust_sha256=self.organisation.trust.sha256)
        assert report.findings == ()
        state = State()
        for entry in entries:
            state = fold(state, entry)
        return state


def finished(progress: list[pb.Progress]) -> Finished:
    """Return how a command ended."""
    body = parse_entry(progress[-1].finished.entry).body
    assert isinstance(body, Finished), progress
    return body


def ended_pods(progress: list[pb.Progress]) -> dict[str, PodEnded]:
    """Return the recorded outcome of each pod, by its UID."""
    bodies = [
        parse_entry(one.pod.entry).body for one in progress if one.WhichOneof("step") == "pod"
    ]
    return {body.uid: body for body in bodies if isinstance(body, PodEnded)}
