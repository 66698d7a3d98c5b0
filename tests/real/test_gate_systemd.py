# SPDX-License-Identifier: Apache-2.0
"""The gate under the systemd driver, with a real systemd on a hybrid machine booted by nspawn.

The tests make slices as kubelet's systemd driver does, and scopes as runc and crun do.  `make
test-v2` tests a whole kubelet and pure cgroup v2.
"""

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import LabUnavailable, leftovers, nspawn
from lab.nspawn import STAGE, Machine
from tests.support import own_groups

_WHY_NOT = nspawn.why_not() or own_groups.why_not(*own_groups.HYBRID)
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT or "it can")]

ROOT = Path(__file__).resolve().parents[2]
V1 = "pids,freezer,systemd"
_NEW_SLICE = (
    "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1"
    " org.freedesktop.systemd1.Manager StartTransientUnit 'ssa(sv)a(sa(sv))'"
    " {unit} replace 2 DefaultDependencies b false TasksAccounting b true 0"
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A hybrid machine with systemd, its control group trees, and breakglass's code."""
    stage, runtime = tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("run")
    shutil.copytree(ROOT / "breakglass", stage / "breakglass")
    shutil.copy(ROOT / "tests/support/slice_acts.py", stage)
    try:
        prepared = nspawn.prepared()
        with Machine(
            prepared, stage=stage, runtime=runtime, controllers=("pids", "freezer")
        ) as booted:
            yield booted
    except LabUnavailable as error:
        pytest.skip(str(error))


class Pod:
    """A pod's slice on the machine."""

    def __init__(self, machine: Machine) -> None:
        self.uid = str(uuid.uuid4())
        self.unit = f"kubepods-besteffort-pod{self.uid.replace('-', '_')}.slice"
        self.path = f"kubepods.slice/kubepods-besteffort.slice/{self.unit}"
        self._machine = machine
        self._last = 0
        self.make()

    def make(self) -> None:
        """Make the slice, as kubelet does."""
        self._machine.run(_NEW_SLICE.format(unit=self.unit))
        self._machine.wait_until(f"test -d /sys/fs/cgroup/systemd/{self.path}")

    def act(self, act: str, trees: str = "") -> Any:  # noqa: ANN401 - what it printed
        """Run an act of `tests.support.slice_acts` on the pod; return what it printed."""
        ran = self._machine.run(f"python3 -B {STAGE}/slice_acts.py {act} {self.uid} {trees}")
        return json.loads(ran.stdout)

    def start(self) -> bool:
        """Start a container's scope with one process in it; return whether that succeeded."""
        self._last += 1
        made = self._machine.run(
            f"systemd-run --quiet --scope --unit={self.scope} --slice={self.unit}"
            " sh -c 'sleep 1000 </dev/null >/dev/null 2>&1 &'",
            check=False,
        )
        return not made.returncode

    @property
    def scope(self) -> str:
        """The name of the last container's scope, in the form that the runtime uses."""
        return f"cri-containerd-{self._last:032x}{self.uid.replace('-', '')}.scope"

    @property
    def tasks_max(self) -> str:
        """The slice's limit on tasks, read from the kernel."""
        return self._machine.run(f"cat /sys/fs/cgroup/pids/{self.path}/pids.max").stdout.strip()

    def systemctl(self, command: str) -> str:
        """Run systemctl on the machine."""
        return self._machine.run(f"systemctl {command}").stdout.strip()


@pytest.fixture
def pod(machine: Machine) -> Iterator[Pod]:
    """A new pod for each test."""
    made = Pod(machine)
    yield made
    machine.run(f"systemctl stop {made.unit}", check=False)


def test_a_slice_is_found_with_its_limits(pod: Pod) -> None:
    """On a hybrid machine the limits are descendants first, then the property as a second one."""
    seen = pod.act("show")
    assert (seen["path"], seen["layout"]) == (pod.path, "hybrid")
    assert (seen["known"], seen["born"]) == (True, True)
    assert seen["limits"] == [["descendants", "max"], ["property", "infinity"]]
    assert seen["standing"] == "watch only"


def test_no_scope_starts_behind_the_gate(pod: Pod) -> None:
    """Scopes start before and after it; `reset` resets this pod's failed scopes and no others."""
    assert pod.start()
    gated = pod.act("gate")
    assert (gated["standing"], gated["changed"]) == ("descendants", [])
    assert len(gated["leaves"]) == 1  # the running container keeps running
    assert not pod.start()
    assert not pod.start()
    other = Pod(pod._machine)
    other.act("gate")
    assert not other.start()
    assert pod.act("reset") == 2
    assert pod.act("reset") == 0
    assert other.scope in other.systemctl("list-units --all --state=failed --plain --no-legend")
    assert other.act("reset") == 1

    lifted = pod.act("lift")
    assert lifted["standing"] == "watch only"
    assert (pod.tasks_max, pod.systemctl(f"show -P TasksMax {pod.unit}")) == ("max", "infinity")
    assert pod.start()
    pod.systemctl(f"stop {other.unit}")


DISTURBANCES = {
    "reload": "systemctl daemon-reload",
    "reexec": "systemctl daemon-reexec",
    "property": "systemctl set-property --runtime {unit} CPUWeight=50",
    "parent": "systemctl set-property --runtime kubepods-besteffort.slice CPUWeight=50",
    "scope": "systemd-run --quiet --scope --slice={unit} true || true",
    "sibling": "systemd-run --quiet --scope --slice=kubepods-besteffort.slice true",
    "emptied": "systemd-run --quiet --scope --slice={unit} sleep 0.01 || true",
}


@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_no_systemd_operation_opens_the_gate(pod: Pod, disturbance: str) -> None:
    """Systemd reverts neither limit, whether or not the other one is set."""
    command = DISTURBANCES[disturbance].format(unit=pod.unit)
    for act, gate, trees in (("belt", "property", V1), ("gate", "descendants", "")):
        assert pod.act(act, trees)["standing"] == gate
        pod._machine.run(command)
        pod._machine.wait_until("systemctl show-environment")
        after = pod.act("show", trees)
        assert (after["standing"], after["changed"]) == (gate, []), command
    assert pod.tasks_max in {"0", "1"}


def test_on_plain_v1_the_property_is_the_gate(pod: Pod) -> None:
    """It is set early, with the file's limit as the second one, over any existing limit."""
    pod.systemctl(f"set-property --runtime {pod.unit} TasksMax=100")
    seen = pod.act("show", V1)
    assert (seen["layout"], seen["standing"]) == ("v1", "watch only")
    assert seen["limits"] == [["property", "100"], ["pids", "100"]]
    gated = pod.act("gate", V1)
    assert (gated["standing"], gated["changed"], pod.tasks_max) == ("property", [], "0")
    ours = [["property", "infinity"], ["pids", "max"]]  # never our own gate's value as an old value
    assert pod.act("show", V1)["limits"] == ours


def test_a_limit_that_another_process_set_is_seen_and_restored(pod: Pod) -> None:
    """A podPidsLimit from before the gate is restored; a change under the gate is reported."""
    pod.systemctl(f"set-property --runtime {pod.unit} TasksMax=100")
    assert pod.act("show")["limits"] == [["descendants", "max"], ["property", "100"]]
    assert pod.act("gate")["changed"] == []
    pod.systemctl(f"set-property --runtime {pod.unit} TasksMax=50")
    seen = pod.act("show")
    assert (seen["changed"], seen["standing"]) == (["property"], "descendants")
    assert seen["limits"] == [["descendants", "max"], ["property", "50"]]


def test_systemd_is_reached_without_the_bus(pod: Pod) -> None:
    """An overloaded node may have lost dbus: systemctl then uses systemd's private socket."""
    pod.systemctl("stop dbus.socket dbus.service")
    try:
        assert pod.act("belt")["changed"] == ["descendants"]
        assert pod.tasks_max == "1"
    finally:
        pod.systemctl("start dbus.socket")


def test_a_scope_is_killed_and_systemd_sees_it(pod: Pod) -> None:
    """The processes are gone in every tree, and systemd ends the scope."""
    assert pod.start()
    assert [len(pids) for pids in pod.act("show")["leaves"].values()] == [1]
    assert all(pids == [] for pids in pod.act("kill")["leaves"].values())
    pod._machine.wait_until(f"! systemctl is-active {pod.scope}")
    assert leftovers.processes_in(f"{pod._machine.cgroup}/{pod.path}") == ()


def test_a_slice_that_was_made_again_has_no_gate(pod: Pod) -> None:
    """The slice is a new group of the same name; the old limits are gone, and `show` says so."""
    pod.act("gate")
    pod.systemctl(f"stop {pod.unit}")
    pod._machine.wait_until(f"test ! -e /sys/fs/cgroup/systemd/{pod.path}")
    assert pod.act("show") is None
    pod.make()
    seen = pod.act("show")
    assert seen["standing"] == "watch only"
    assert "descendants" in seen["changed"]
