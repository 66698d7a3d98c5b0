# SPDX-License-Identifier: Apache-2.0
"""The contract of the kernel ports: find groups, set and lift limits, kill containers."""

import secrets
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from breakglass.agent.kernel.port import Kernel, Leaf, PodGroup
from breakglass.core.gates import Gate, Layout, Limit, Oci, choose_limits, gate_of
from breakglass.errors import GateFailed
from tests.contract.kernel_rigs import KERNELS, REAL, KernelRig


def _param(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.real) if name in REAL else name


@pytest.fixture(params=[_param(name) for name in KERNELS])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KernelRig]:
    """One rig for each kind of machine."""
    reason, opened = KERNELS[request.param]
    if reason:
        pytest.skip(reason)
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def kernel(rig: KernelRig) -> Kernel:
    """The kernel ports of the rig."""
    return rig.kernel


@pytest.fixture
def uid(rig: KernelRig) -> str:
    """The UID of a new pod with a control group."""
    made = str(uuid.uuid4())
    rig.pod(made)
    return made


@pytest.fixture
def group(kernel: Kernel, uid: str) -> PodGroup:
    """The control group of that pod."""
    found = kernel.groups.pod_group(uid)
    assert found is not None
    return found


def new_id() -> str:
    """Return a new container id in the form that runtimes use."""
    return secrets.token_hex(32)


def code_of(refused: pytest.ExceptionInfo[GateFailed]) -> str:
    """Return the stable code of an error."""
    return refused.value.stable_code


def test_a_pod_is_found_by_its_uid_by_its_path_and_among_all(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """All three give the same group, and another pod has another group."""
    other = str(uuid.uuid4())
    hint = rig.pod(other)
    assert group.uid == uid
    assert group in kernel.groups.pod_groups()
    assert kernel.groups.pod_group(uid, f"/{group.path}") == group
    beside = kernel.groups.pod_group(other, hint)
    assert beside is not None
    assert (beside.uid, beside in kernel.groups.pod_groups()) == (other, True)
    assert beside.path != group.path
    assert {label for label, _ in group.trees} == {label for label, _ in beside.trees}


def test_a_pod_without_a_group_has_none(rig: KernelRig, kernel: Kernel, uid: str) -> None:
    """The answer is None for a group that was never made or was removed, with or without a hint."""
    hint = rig.pod(uid)
    rig.remove(uid)
    for one, at in ((str(uuid.uuid4()), ""), (uid, ""), (uid, hint)):
        assert kernel.groups.pod_group(one, at) is None
    assert uid not in {found.uid for found in kernel.groups.pod_groups()}


def test_the_path_of_another_pod_is_refused(rig: KernelRig, kernel: Kernel, uid: str) -> None:
    """A hint must end in this pod's whole UID, and must not be below another pod."""
    other = rig.pod(str(uuid.uuid4()))
    own = rig.pod(uid)
    above = own.rpartition("/")[0]
    for hint in (other, "/", above, f"{own}/x", f"{own}x", f"{own[:-1]}", f"{other}{own}"):
        with pytest.raises(GateFailed) as refused:
            kernel.groups.pod_group(uid, hint)
        assert code_of(refused) == "cgroup-mismatch"
    with pytest.raises(GateFailed):
        kernel.groups.pod_group(uid, f"{above}/../{own}")


def test_a_new_group_of_the_same_name_is_another_one(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """It has none of the old limits, so its inode must show that it is not the gated group."""
    rig.remove(uid)
    rig.pod(uid)
    again = kernel.groups.pod_group(uid)
    assert again is not None
    assert again.inode != group.inode
    assert again in kernel.groups.pod_groups()


def test_new_groups_appear_in_the_parents(kernel: Kernel, group: PodGroup) -> None:
    """In at least one tree the directory above the pod's group is among the parents to watch."""
    above = {directory.parent for _, directory in group.trees}
    assert above & set(kernel.groups.parents())


def test_containers_are_found_by_their_ids(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """Each leaf has its container's processes, also a leaf that was found by a process id."""
    ids = sorted((new_id(), new_id()))
    pids = [rig.container(uid, one) for one in ids]
    leaves = kernel.groups.leaves(group)
    assert [leaf.container_id for leaf in leaves] == ids
    assert [kernel.groups.pids(leaf) for leaf in leaves] == [(pid,) for pid in pids]
    found = kernel.groups.leaf_of(pids[0], ids[0])
    assert found is not None
    assert (found.container_id, kernel.groups.pids(found)) == (ids[0], (pids[0],))
    assert kernel.groups.leaf_of(pids[0], ids[1]) is None


def test_limits_are_those_of_the_matrix_with_their_values(
    rig: KernelRig, kernel: Kernel, group: PodGroup
) -> None:
    """In a new group every limit that its trees support is open."""
    chosen = {
        belt.kind: belt.early
        for belt in choose_limits(group.layout, is_slice=group.is_slice, oci=rig.oci)
    }
    limits = kernel.limits.current(group, rig.oci)
    assert limits
    assert [limit.kind for limit in limits] == [
        kind for kind in chosen if kind in {limit.kind for limit in limits}
    ]
    for limit in limits:
        assert limit.old == ("infinity" if limit.kind is Gate.PROPERTY else "max")
        assert limit.early == chosen[limit.kind]


def test_the_early_limits_can_be_had_alone(rig: KernelRig, kernel: Kernel, group: PodGroup) -> None:
    """Those that are set before anything is stopped: for a new pod there is no time for others."""
    every = kernel.limits.current(group, rig.oci)
    assert kernel.limits.current(group, rig.oci, early=True) == tuple(
        one for one in every if one.early
    )


def test_a_gate_stands_until_it_is_lifted(rig: KernelRig, kernel: Kernel, group: PodGroup) -> None:
    """Limits are set in order and proven; lifted in reverse order they are as before."""
    limits = kernel.limits.current(group, rig.oci)
    assert kernel.limits.standing(group, limits, rig.oci) is Gate.WATCH_ONLY
    for limit in limits:
        kernel.limits.set_limit(group, limit)
    everything = frozenset(limit.kind for limit in limits)
    expected = gate_of(group.layout, is_slice=group.is_slice, oci=rig.oci, standing=everything)
    assert kernel.limits.standing(group, limits, rig.oci) is expected is not Gate.WATCH_ONLY
    assert kernel.limits.changed(group, limits) == ()
    for limit in limits:
        kernel.limits.set_limit(group, limit)  # setting it again changes nothing
    assert kernel.limits.changed(group, limits) == ()
    for limit in reversed(limits):
        kernel.limits.lift(group, limit)
    assert kernel.limits.standing(group, limits, rig.oci) is Gate.WATCH_ONLY
    assert kernel.limits.current(group, rig.oci) == limits


def test_a_limit_that_another_process_set_is_restored(
    rig: KernelRig, kernel: Kernel, group: PodGroup
) -> None:
    """Lifting a limit on tasks restores the number that kubelet had set."""
    limit = kernel.limits.current(group, rig.oci)[-1]
    rig.write(limit, "77")
    numbered = kernel.limits.current(group, rig.oci)[-1]
    assert numbered == replace(limit, old="77")
    kernel.limits.set_limit(group, numbered)
    kernel.limits.lift(group, numbered)
    assert kernel.limits.current(group, rig.oci)[-1] == numbered


def test_the_value_of_an_earlier_gate_is_not_an_old_value(
    rig: KernelRig, kernel: Kernel, group: PodGroup
) -> None:
    """The values of a forgotten gate must not become old values of the next one."""
    limits = kernel.limits.current(group, rig.oci)
    for limit in limits:
        kernel.limits.set_limit(group, limit)
    assert kernel.limits.current(group, rig.oci) == limits


def test_a_limit_that_another_process_changed_is_reported(
    rig: KernelRig, kernel: Kernel, group: PodGroup
) -> None:
    """Only the changed limit is reported; once set again, it stands again."""
    limits = kernel.limits.current(group, rig.oci)
    for limit in limits:
        kernel.limits.set_limit(group, limit)
    stood = kernel.limits.standing(group, limits, rig.oci)
    for limit in limits:
        for value in ("20", limit.old):
            rig.write(limit, value)
            assert kernel.limits.changed(group, limits) == (limit,)
            kernel.limits.set_limit(group, limit)
            assert kernel.limits.changed(group, limits) == ()
    assert kernel.limits.standing(group, limits, rig.oci) is stood


def test_a_virtual_machine_is_only_watched(kernel: Kernel, group: PodGroup) -> None:
    """Its pods get no limits, and the gate that stands is "watch only"."""
    assert kernel.limits.current(group, Oci.VIRTUAL_MACHINE) == ()
    limits = kernel.limits.current(group, Oci.RUNC)
    for limit in limits:
        kernel.limits.set_limit(group, limit)
    assert kernel.limits.standing(group, limits, Oci.VIRTUAL_MACHINE) is Gate.WATCH_ONLY


def test_a_limit_of_another_pod_is_never_touched(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """A record that names another place is refused, and it proves nothing."""
    rig.pod(other := str(uuid.uuid4()))
    beside = kernel.groups.pod_group(other)
    assert beside is not None
    theirs = kernel.limits.current(beside, rig.oci)
    elsewhere = Limit(kind=Gate.PIDS, place="/etc/passwd", old="max", early=True)
    for limit in (*theirs, elsewhere):
        for touch in (kernel.limits.set_limit, kernel.limits.lift):
            with pytest.raises(GateFailed) as refused:
                touch(group, limit)
            assert code_of(refused) == "cgroup-mismatch"
    for limit in theirs:
        kernel.limits.set_limit(beside, limit)
    assert kernel.limits.standing(group, theirs, rig.oci) is Gate.WATCH_ONLY
    assert kernel.limits.standing(beside, theirs, rig.oci) is not Gate.WATCH_ONLY


def test_calls_on_a_group_that_is_gone_succeed(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """Every read returns an empty result, and every change succeeds without an effect."""
    limits = kernel.limits.current(group, rig.oci)
    rig.container(uid, new_id())
    (leaf,) = kernel.groups.leaves(group)
    rig.remove(uid)
    assert kernel.groups.leaves(group) == ()
    assert kernel.limits.current(group, rig.oci) == ()
    for limit in limits:
        kernel.limits.set_limit(group, limit)
        kernel.limits.lift(group, limit)
    assert kernel.limits.standing(group, limits, rig.oci) is Gate.WATCH_ONLY
    assert kernel.limits.changed(group, limits) == ()
    assert kernel.groups.pids(leaf) == ()
    kernel.killer.kill(leaf)
    assert kernel.limits.reset_failed(group) == 0


def test_a_kill_ends_one_container_and_no_other(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """The container's processes are gone; the pod's other container and another pod go on."""
    rig.pod(other := str(uuid.uuid4()))
    first, second, third = new_id(), new_id(), new_id()
    rig.container(uid, first)
    rig.container(uid, second)
    rig.container(other, third)
    leaves = {leaf.container_id: leaf for leaf in kernel.groups.leaves(group)}
    beside = kernel.groups.pod_group(other)
    assert beside is not None
    (theirs,) = kernel.groups.leaves(beside)
    kernel.killer.kill(leaves[first])
    assert kernel.groups.pids(leaves[first]) == ()
    assert kernel.groups.pids(leaves[second])
    assert kernel.groups.pids(theirs)
    kernel.killer.kill(leaves[first])


def test_a_gate_does_not_stop_a_kill(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """A hold sets the gate first and may have to kill the container afterwards."""
    rig.container(uid, new_id())
    for limit in kernel.limits.current(group, rig.oci):
        kernel.limits.set_limit(group, limit)
    (leaf,) = kernel.groups.leaves(group)
    kernel.killer.kill(leaf)
    assert kernel.groups.pids(leaf) == ()


def test_a_process_that_cannot_die_is_still_listed(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """A process in uninterruptible sleep survives the kill, which is not an error of the port."""
    kept = rig.container(uid, new_id())
    (leaf,) = kernel.groups.leaves(group)
    rig.make_immune(kept)
    kernel.killer.kill(leaf)
    assert kernel.groups.pids(leaf) == (kept,)


def test_only_the_leaf_of_a_container_is_killed(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """A pod's group or one above it is refused: a pod's slice drops its limits when it is empty."""
    pid = rig.container(uid, one := new_id())
    own = group.trees[0][1]
    for directory in (own, own.parent, own / one / "..", own.parent.parent):
        with pytest.raises(GateFailed) as refused:
            kernel.killer.kill(Leaf(directory=directory, container_id=one))
        assert code_of(refused) == "kill-refused"
    (leaf,) = kernel.groups.leaves(group)
    assert kernel.groups.pids(leaf) == (pid,)


def test_a_machine_is_of_one_kind(kernel: Kernel, group: PodGroup) -> None:
    """The layout agrees with the trees in which the pod has a group."""
    labels = {label for label, _ in group.trees}
    assert (group.layout is Layout.UNIFIED) == (labels == {""})
    assert (group.layout is Layout.LEGACY) == ("" not in labels)
