# SPDX-License-Identifier: Apache-2.0
"""The gate against real runc and real crun under a real containerd: a claimed gate really holds.

Each container writes a line to a file as its first act: no line means that no user code ran.  This
machine has the cgroupfs driver, hybrid or v1; `make test-v2` tests the systemd driver and pure v2.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from breakglass.agent.kernel.host import host_kernel
from breakglass.agent.kernel.port import Leaf, PodGroup
from breakglass.agent.runtime.peer import runtime_pid_of
from breakglass.core.gates import Gate, Layout, Limit, Oci
from breakglass.errors import GateFailed
from lab import leftovers
from lab.containerd import Containerd, why_not
from tests.support.starts import Starts

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")]

HAS_CRUN = shutil.which("crun", path="/usr/bin:/bin:/usr/sbin:/usr/local/bin") is not None
RUNC = pytest.param("runc", id="runc")
CRUN = pytest.param(
    "crun", id="crun", marks=pytest.mark.skipif(not HAS_CRUN, reason="not installed: crun")
)
TRIES = 3
RUNNING, EXITED = 1, 2
SEEN_S = 60.0


# On a hybrid machine crun refuses to run while the cgroup2 tree has a controller, such as hugetlb
# here.  The runtime runs in a mount namespace where the tree's list of controllers is empty.
_SHOWN = "/sys/fs/cgroup/unified/cgroup.controllers"
_HIDE = f'[ ! -e {_SHOWN} ] || mount --bind /dev/null {_SHOWN}; exec "$@"'
_NO_CONTROLLERS = ("unshare", "--mount", "--propagation=slave", "sh", "-ec", _HIDE, "sh")


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    """One containerd for all tests of this module: each test makes its own pod."""
    with Containerd(enter=_NO_CONTROLLERS) as running:
        yield running


class Pod:
    """A pod with one running container, and the kernel that gates it."""

    def __init__(self, containerd: Containerd, folder: Path, handler: str, **shape: bool) -> None:
        self.kernel = host_kernel(
            runtime_pids=lambda: frozenset({runtime_pid_of(containerd.socket) or 0})
        )
        self.oci = Oci(handler)
        self.starts = Starts(containerd, folder / handler, handler=handler, **shape)
        self.sandbox_id = self.starts.sandbox()
        self.container_id, failure = self.starts.start(self.sandbox_id)
        assert not failure
        self.wait_for_lines(1)

    @property
    def group(self) -> PodGroup:
        """The pod's group, found by its UID and the path from the runtime."""
        found = self.kernel.groups.pod_group(self.starts.uid, self.starts.path)
        assert found is not None
        return found

    def leaf(self, container_id: str) -> Leaf:
        """Return a container's leaf."""
        leaves = self.kernel.groups.leaves(self.group)
        return next(leaf for leaf in leaves if leaf.container_id == container_id)

    def gate(self, *kinds: Gate) -> tuple[Limit, ...]:
        """Set the limits of these kinds, or all limits."""
        limits = self.kernel.limits.current(self.group, self.oci)
        chosen = tuple(limit for limit in limits if not kinds or limit.kind in kinds)
        for limit in chosen:
            self.kernel.limits.set_limit(self.group, limit)
        return chosen

    def lift(self, limits: tuple[Limit, ...]) -> None:
        """Restore all old values, the last limit first."""
        for limit in reversed(limits):
            self.kernel.limits.lift(self.group, limit)

    def kill(self, container_id: str) -> None:
        """Kill one container by the kernel, and wait until the runtime reports it as exited."""
        leaf = self.leaf(container_id)
        self.kernel.killer.kill(leaf)
        assert self.kernel.groups.pids(leaf) == ()
        self.wait(lambda: self.starts.status(container_id).state == EXITED)

    def wait_for_lines(self, count: int) -> None:
        """Wait until user code has started `count` times."""
        self.wait(lambda: self.starts.lines() == count)

    @staticmethod
    def wait(is_so: Callable[[], bool]) -> None:
        """Wait until `is_so` returns true; fail after `SEEN_S`."""
        end = time.monotonic() + SEEN_S
        while not is_so():
            assert time.monotonic() < end, f"not true within {SEEN_S:g} s"
            time.sleep(0.005)


@pytest.fixture
def pod(request: pytest.FixtureRequest, containerd: Containerd, tmp_path: Path) -> Iterator[Pod]:
    """A pod made by one of the OCI runtimes; containerd removes its cgroups and mounts."""
    made = Pod(containerd, tmp_path, request.param)
    with made.starts:
        yield made
        for file in _shut_files(made.starts.path):  # so that the containerd can end the pod
            file.write_text("max")


def _shut_files(path: str) -> Iterator[Path]:
    for tree in leftovers.hierarchies():
        for name in ("cgroup.max.descendants", "pids.max"):
            file = tree / path.strip("/") / name
            if file.exists():
                yield file


@pytest.mark.parametrize("pod", [RUNC, CRUN], indirect=True)
def test_every_start_fails_under_a_gate_and_works_after_it(pod: Pod) -> None:
    """User code runs before the gate and after it, and never while it stands."""
    limits = pod.gate()
    held = pod.kernel.limits.standing(pod.group, limits, pod.oci)
    assert held is not Gate.WATCH_ONLY
    pod.kill(pod.container_id)
    for _ in range(TRIES):
        container_id, failure = pod.starts.start(pod.sandbox_id)
        assert failure
        status = pod.starts.status(container_id)
        assert (status.state, status.exit_code, status.reason) == (EXITED, 128, "StartError")
    assert pod.starts.lines() == 1
    assert pod.kernel.limits.standing(pod.group, limits, pod.oci) is held
    assert pod.kernel.limits.changed(pod.group, limits) == ()

    pod.lift(limits)
    assert pod.kernel.limits.standing(pod.group, limits, pod.oci) is Gate.WATCH_ONLY
    _, failure = pod.starts.start(pod.sandbox_id)
    assert not failure
    pod.wait_for_lines(2)


@pytest.mark.parametrize("pod", [RUNC, CRUN], indirect=True)
def test_no_sandbox_starts_under_a_gate(pod: Pod) -> None:
    """Kubelet makes a new sandbox when the old one is gone: that fails and leaves no process."""
    limits = pod.gate()
    pod.starts.stop_sandbox(pod.sandbox_id)
    for _ in range(TRIES):
        with pytest.raises(grpc.RpcError):
            pod.starts.sandbox()
    assert leftovers.processes_in(pod.starts.path) == ()
    assert pod.kernel.limits.standing(pod.group, limits, pod.oci) is not Gate.WATCH_ONLY
    pod.lift(limits)
    _, failure = pod.starts.start(pod.starts.sandbox())
    assert not failure
    pod.wait_for_lines(2)


@pytest.mark.parametrize("pod", [RUNC, CRUN], indirect=True)
def test_what_runs_goes_on_under_descendants(pod: Pod) -> None:
    """The early limit does not disturb a running container, which ends as it would without it."""
    pod.gate(Gate.DESCENDANTS)
    before = pod.kernel.groups.pids(pod.leaf(pod.container_id))
    assert before
    assert pod.starts.status(pod.container_id).state == RUNNING
    assert pod.kernel.groups.pids(pod.leaf(pod.container_id)) == before


SUBSETS = [(Gate.DESCENDANTS,), (Gate.PIDS,), (Gate.DESCENDANTS, Gate.PIDS)]


@pytest.mark.parametrize("handler", [RUNC, CRUN])
@pytest.mark.parametrize("privileged", [False, True], ids=["plain", "privileged"])
def test_a_claimed_gate_blocks_with_each_set_of_limits(
    containerd: Containerd, tmp_path: Path, handler: str, *, privileged: bool
) -> None:
    """A gate that is claimed blocks the start, for the real OCI runtime and for an unknown one.

    The matrix is not too strict either: where a start was measured to pass a limit, it passes here.
    """
    pod = Pod(containerd, tmp_path, handler, privileged=privileged)
    with pod.starts:
        hybrid = pod.group.layout is Layout.HYBRID
        for kinds in SUBSETS:
            limits = pod.gate(*kinds)
            if len(limits) != len(kinds):
                continue  # this machine lacks one of the trees
            _, failure = pod.starts.start(pod.sandbox_id)
            claims = {
                oci: pod.kernel.limits.standing(pod.group, limits, oci)
                for oci in (pod.oci, Oci.UNKNOWN)
            }
            pod.lift(limits)
            assert failure or set(claims.values()) == {Gate.WATCH_ONLY}, kinds
            if hybrid:
                runs_past = Gate.DESCENDANTS if handler == "runc" else Gate.PIDS
                assert bool(failure) == (kinds != (runs_past,)), kinds


@pytest.mark.parametrize("pod", [RUNC], indirect=True)
def test_another_pod_starts_as_before(pod: Pod, containerd: Containerd, tmp_path: Path) -> None:
    """A gate holds one pod: another pod of the same runtime and QoS class still starts."""
    pod.gate()
    (tmp_path / "other").mkdir()
    other = Pod(containerd, tmp_path / "other", "runc")
    with other.starts:
        pod.kill(pod.container_id)
        assert other.kernel.groups.pids(other.leaf(other.container_id))
        _, failure = other.starts.start(other.sandbox_id)
        assert not failure
        other.wait_for_lines(2)


@pytest.mark.parametrize("pod", [RUNC, CRUN], indirect=True)
def test_a_runtime_that_hangs_is_not_needed(pod: Pod, containerd: Containerd) -> None:
    """With containerd paused the gate is set and the container killed; containerd sees it later."""
    containerd.pause()
    try:
        limits = pod.gate()
        leaf = pod.leaf(pod.container_id)
        pod.kernel.killer.kill(leaf)
        assert pod.kernel.groups.pids(leaf) == ()
        assert pod.kernel.limits.standing(pod.group, limits, pod.oci) is not Gate.WATCH_ONLY
        assert runtime_pid_of(containerd.socket) == containerd.pid
    finally:
        containerd.resume()
    pod.wait(lambda: pod.starts.status(pod.container_id).state == EXITED)
    assert pod.starts.status(pod.container_id).exit_code == 137
    _, failure = pod.starts.start(pod.sandbox_id)
    assert failure
    assert pod.starts.lines() == 1


@pytest.mark.parametrize("pod", [RUNC, CRUN], indirect=True)
def test_a_frozen_container_is_killed_under_the_runtime(pod: Pod) -> None:
    """A frozen container dies all the same, and the runtime sees that."""
    path = f"{pod.starts.path.strip('/')}/{pod.container_id}"
    for state in (tree / path / "freezer.state" for tree in leftovers.hierarchies()):
        if state.exists():
            state.write_text("FROZEN")
            while state.read_text().strip() != "FROZEN":
                os.sched_yield()
    pod.kill(pod.container_id)
    assert pod.starts.status(pod.container_id).exit_code == 137


@pytest.mark.parametrize("pod", [RUNC, CRUN], indirect=True)
def test_the_sandbox_has_its_own_leaf(pod: Pod) -> None:
    """Containers and sandbox have leaves by their ids, and killing one leaves the other alive."""
    ids = {leaf.container_id for leaf in pod.kernel.groups.leaves(pod.group)}
    assert ids == {pod.sandbox_id, pod.container_id}
    pod.kill(pod.container_id)
    assert pod.kernel.groups.pids(pod.leaf(pod.sandbox_id))


@pytest.mark.parametrize("pod", [RUNC], indirect=True)
def test_a_container_cannot_pass_for_another_pod(pod: Pod) -> None:
    """A group made inside its own, named like a pod, is not taken for a pod."""
    other = "99999999-9999-4999-8999-999999999999"
    for _, directory in pod.group.trees:
        (directory / pod.container_id / f"pod{other}").mkdir()
    assert pod.kernel.groups.pod_group(other) is None
    assert other not in {found.uid for found in pod.kernel.groups.pod_groups()}
    inside = f"{pod.starts.path}/{pod.container_id}/pod{other}"
    with pytest.raises(GateFailed) as refused:
        pod.kernel.groups.pod_group(other, inside)
    assert refused.value.stable_code == "cgroup-mismatch"
