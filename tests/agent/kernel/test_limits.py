# SPDX-License-Identifier: Apache-2.0
"""Limits on pods' groups, by files and by systemctl, in trees of every kind.

The mkdir that the kernel refuses is tested where the machine has a cgroup2 tree.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from breakglass.agent.kernel.limits import PROBE, refuses_children
from breakglass.core.gates import Gate, Layout, Limit, Oci
from breakglass.errors import GateFailed
from tests.support import own_groups
from tests.support.fake_host import ID, Host
from tests.support.gated_pod import KINDS, POD, SLICE, SLICED, UNIT, Gated, code_of
from tests.support.own_groups import OwnGroups

EXPECTED = {
    ("v2", POD): ("descendants", "pids"),
    ("v1", POD): ("pids",),
    ("hybrid", POD): ("descendants", "pids"),
    ("v2", SLICE): ("descendants", "property"),
    ("v1", SLICE): ("property", "pids"),
    ("hybrid", SLICE): ("descendants", "property"),
}


@pytest.fixture(
    params=EXPECTED, ids=lambda one: f"{one[0]}-{'slice' if one[1] == SLICE else 'pod'}"
)
def gated(request: pytest.FixtureRequest, tmp_path: Path) -> Gated:
    """Return a pod for each kind of machine and each driver."""
    return Gated(tmp_path, *request.param)


def test_each_kind_of_machine_has_its_limits(gated: Gated, request: pytest.FixtureRequest) -> None:
    """The limits are at the pod's own places, with the values from before the gate."""
    limits = gated.limits()
    kinds = EXPECTED[request.node.callspec.params["gated"]]
    assert tuple(limit.kind.value for limit in limits) == kinds
    for limit in limits:
        if limit.kind is Gate.PROPERTY:
            assert (limit.place, limit.old) == (UNIT, "infinity")
        else:
            assert limit.old == "max"
            assert Path(limit.place).parent in {place for _, place in gated.group.trees}


def test_limits_are_set_lifted_and_read_back(gated: Gated) -> None:
    """Each limit is set at its place; the kernel's file shows one of systemd's too."""
    limits = gated.set_all()
    assert gated.kernel.limits.changed(gated.group, limits) == ()
    for limit in limits:
        if limit.kind is Gate.PROPERTY:
            assert gated.host.systemd.units[UNIT]["TasksMax"] == "1"
        else:
            assert Path(limit.place).read_text().strip() == "0"
    assert gated.limits() == limits
    for limit in reversed(limits):
        gated.kernel.limits.lift(gated.group, limit)
    assert gated.kernel.limits.changed(gated.group, limits) == limits
    assert gated.limits() == limits
    assert gated.tasks.read_text().strip() == "max"


def test_tasks_are_proven_by_reading(gated: Gated) -> None:
    """Files refuse no mkdir here, so descendants are not verified, whatever their file reads."""
    limits = gated.set_all()
    stands = gated.kernel.limits.standing(gated.group, limits, Oci.RUNC)
    slices = Gate.PROPERTY if gated.group.is_slice else Gate.PIDS
    assert stands is slices
    assert gated.kernel.limits.standing(gated.group, limits, Oci.CRUN) is Gate.WATCH_ONLY
    assert not any((place / PROBE).exists() for _, place in gated.group.trees)
    gated.tasks.write_text("max")
    assert gated.kernel.limits.standing(gated.group, limits, Oci.RUNC) is Gate.WATCH_ONLY


def test_a_property_needs_both_systemd_and_the_kernel(tmp_path: Path) -> None:
    """A TasksMax that only systemd or only the kernel shows does not count as standing."""
    gated = Gated(tmp_path, "v2", SLICE)
    limits = gated.set_all()
    gated.tasks.write_text("0")  # a gate's 0: systemd rewrites it to 1, which holds as well
    assert gated.kernel.limits.standing(gated.group, limits, Oci.RUNC) is Gate.PROPERTY
    gated.host.systemd.install({UNIT: {"TasksMax": "infinity"}})
    assert gated.kernel.limits.standing(gated.group, limits, Oci.RUNC) is Gate.WATCH_ONLY
    gated.host.systemd.install({UNIT: {"TasksMax": "1"}}, fails="Connection refused")
    assert gated.kernel.limits.standing(gated.group, limits, Oci.RUNC) is Gate.WATCH_ONLY


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [*itertools.product(KINDS, ("missing", "fails", "odd")), ("v2", "slow")],
)
def test_without_systemd_the_other_limits_remain(tmp_path: Path, kind: str, trouble: str) -> None:
    """A gate with a TasksMax has another limit too, which remains when systemctl fails."""
    gated = Gated(tmp_path, kind, SLICE)
    _spoil(gated.host, trouble)
    kernel = gated.host.kernel()
    expected = [Gate.PIDS] if kind == "v1" else [Gate.DESCENDANTS]
    assert [limit.kind for limit in kernel.limits.current(gated.group, Oci.RUNC)] == expected


def _spoil(host: Host, trouble: str) -> None:
    program = host.systemd.folder / "systemctl"
    match trouble:
        case "missing":
            program.unlink()
        case "fails":
            host.systemd.install({}, fails="Failed to connect to bus")
        case "odd":
            host.systemd.install({UNIT: {"TasksMax": "50%"}})
        case _:
            program.write_text("#!/bin/sh\nexec sleep 60\n")


def test_when_the_only_limit_cannot_be_read_that_is_an_error(tmp_path: Path) -> None:
    """A pod whose only limit cannot be read raises; a pod without limits does not."""
    gated = Gated(tmp_path, "v2", SLICE)
    _spoil(gated.host, "fails")
    (gated.group.trees[0][1] / "cgroup.max.descendants").unlink()
    with pytest.raises(GateFailed, match="Failed to connect to bus") as refused:
        gated.host.kernel().limits.current(gated.group, Oci.RUNC)
    assert code_of(refused) == "gate-unwritable"


def test_without_the_controller_there_is_no_limit_on_tasks(tmp_path: Path) -> None:
    """Without the pids controller the kernel does not enforce TasksMax, so it is no limit."""
    for number, path in enumerate((POD, SLICE)):
        gated = Gated(tmp_path / str(number), "v2", path)
        gated.tasks.unlink()
        assert [limit.kind for limit in gated.limits()] == [Gate.DESCENDANTS]
    legacy = Gated(tmp_path / "v1", "v1", POD)
    (legacy.host.mounts["pids"] / POD).rename(tmp_path / "gone")
    bare = replace(legacy.group, trees=legacy.group.trees[1:])
    assert legacy.kernel.limits.current(bare, Oci.RUNC) == ()


@pytest.mark.parametrize("value", ["20", "4194304"])
def test_a_number_before_us_comes_back(gated: Gated, value: str) -> None:
    """A podPidsLimit that kubelet set before the gate is restored after it."""
    gated.tasks.write_text(f"{value}\n")
    if gated.group.is_slice:
        gated.host.systemd.install({UNIT: {"TasksMax": value, "file": str(gated.tasks)}})
    limits = gated.set_all()
    assert {limit.old for limit in limits if limit.kind is not Gate.DESCENDANTS} == {value}
    for limit in reversed(limits):
        gated.kernel.limits.lift(gated.group, limit)
    assert gated.tasks.read_text().strip() == value


def test_a_value_that_does_not_stay_is_an_error(tmp_path: Path) -> None:
    """A value that does not read back after the write raises."""
    gated = Gated(tmp_path, "v2", SLICE)
    property_limit = gated.limits()[-1]
    (gated.host.systemd.folder / "systemctl").write_text("#!/bin/sh\necho 50\n")
    with pytest.raises(GateFailed) as refused:
        gated.kernel.limits.set_limit(gated.group, property_limit)
    assert code_of(refused) == "gate-not-standing"
    descendants = gated.limits()[0]
    Path(descendants.place).unlink()
    Path(descendants.place).symlink_to("/dev/null")
    with pytest.raises(GateFailed) as refused:  # a symlink in the file's place is not followed
        gated.kernel.limits.set_limit(gated.group, descendants)
    assert code_of(refused) == "gate-unwritable"


@pytest.mark.parametrize(
    "place",
    [
        "/etc/passwd",
        f"{POD}/pids.max",
        "../pids.max",
        "kubepods-besteffort.slice",
        f"kubepods-besteffort-pod{SLICED[:-1]}0.slice",
        "-x.slice",
        "",
    ],
)
def test_only_the_pods_own_places_are_touched(gated: Gated, place: str) -> None:
    """A limit from the log is compared with the group's present places."""
    for kind in (Gate.DESCENDANTS, Gate.PIDS, Gate.PROPERTY, Gate.WATCH_ONLY):
        limit = Limit(kind=kind, place=place, old="max", early=True)
        for touch in (gated.kernel.limits.set_limit, gated.kernel.limits.lift):
            with pytest.raises(GateFailed) as refused:
                touch(gated.group, limit)
            assert code_of(refused) == "cgroup-mismatch"
        assert gated.kernel.limits.changed(gated.group, (limit,)) == ()
        assert gated.kernel.limits.standing(gated.group, (limit,), Oci.RUNC) is Gate.WATCH_ONLY


def test_a_limit_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """An unreadable limit counts neither as free nor as set."""
    gated = Gated(tmp_path, "v1", POD)
    (limit,) = gated.limits()
    gated.tasks.unlink()
    gated.tasks.mkdir()
    with pytest.raises(GateFailed) as refused:
        gated.kernel.limits.changed(gated.group, (limit,))
    assert code_of(refused) == "gate-unwritable"
    with pytest.raises(GateFailed):
        gated.kernel.limits.current(gated.group, Oci.RUNC)


def test_a_file_that_is_missing_in_a_group_that_is_there_is_an_error(tmp_path: Path) -> None:
    """A missing limit file is an error, unless the whole group is gone."""
    gated = Gated(tmp_path, "v2", POD)
    limits = gated.limits()
    Path(limits[0].place).unlink()
    with pytest.raises(GateFailed) as refused:
        gated.kernel.limits.set_limit(gated.group, limits[0])
    assert code_of(refused) == "gate-unwritable"
    gated.group.trees[0][1].rename(tmp_path / "gone")
    for limit in limits:
        gated.kernel.limits.set_limit(gated.group, limit)


needs_tree = pytest.mark.skipif(
    bool(own_groups.why_not("")), reason=own_groups.why_not("") or "it can"
)


@pytest.mark.real
@needs_tree
def test_the_kernel_refuses_a_container_where_the_limit_stands() -> None:
    """The mkdir fails as a runtime's would; without the limit it succeeds, and no probe is left."""
    with OwnGroups() as groups:
        groups.make(POD, ("",))
        place = groups.directory(POD, "")
        assert not refuses_children(place)
        assert not (place / PROBE).exists()
        (place / "cgroup.max.descendants").write_text("0")
        assert refuses_children(place)
        (place / "cgroup.max.descendants").write_text("1")
        (place / PROBE).mkdir()  # as an interrupted probe leaves it
        assert not refuses_children(place)
        assert not (place / PROBE).exists()
        (place / ID).mkdir()  # a running container's group does not disturb the probe
        (place / "cgroup.max.descendants").write_text("0")
        assert refuses_children(place)


def test_a_probe_that_fails_for_another_reason_proves_nothing(tmp_path: Path) -> None:
    """When the group is gone, or a file is in the probe's way, the gate does not count."""
    assert not refuses_children(tmp_path / "gone")
    (tmp_path / PROBE).touch()
    assert not refuses_children(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == [PROBE]


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    """Only the trees that have the pod decide the layout."""
    layouts = [Gated(tmp_path / kind, kind, POD).group.layout for kind in KINDS]
    assert layouts == [Layout.UNIFIED, Layout.LEGACY, Layout.HYBRID]
