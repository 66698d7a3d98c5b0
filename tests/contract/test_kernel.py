# SPDX-License-Identifier: Apache-2.0
"""What every kernel does for the agent: groups found, limits set and lifted, containers killed."""

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
    """Each kind of machine in turn."""
    reason, opened = KERNELS[request.param]
    if reason:
        pytest.skip(reason)
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def kernel(rig: KernelRig) -> Kernel:
    """The kernel of the machine."""
    return rig.kernel


@pytest.fixture
def uid(rig: KernelRig) -> str:
    """The UID of a pod that has its group."""
    made = str(uuid.uuid4())
    rig.pod(made)
    return made


@pytest.fixture
def group(kernel: Kernel, uid: str) -> PodGroup:
    """That group."""
    found = kernel.groups.pod_group(uid)
    assert found is not None
    return found


def new_id() -> str:
    """Return an id as runtimes give it."""
    return secrets.token_hex(32)


def code_of(refused: pytest.ExceptionInfo[GateFailed]) -> str:
    """Return the stable code of an error."""
    return refused.value.stable_code


def test_a_pod_is_found_by_its_uid_by_its_path_and_among_all(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """Three ways to one group, and another pod has another."""
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
    """Never made, or removed since: both are an answer, with a hint and without."""
    hint = rig.pod(uid)
    rig.remove(uid)
    for one, at in ((str(uuid.uuid4()), ""), (uid, ""), (uid, hint)):
        assert kernel.groups.pod_group(one, at) is None
    assert uid not in {found.uid for found in kernel.groups.pod_groups()}


def test_a_path_of_somebody_else_is_refused(rig: KernelRig, kernel: Kernel, uid: str) -> None:
    """A hint must end in this pod's whole UID, and in nothing below another pod."""
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
    """Its limits are its own: it must be seen that it is not the one that was gated."""
    rig.remove(uid)
    rig.pod(uid)
    again = kernel.groups.pod_group(uid)
    assert again is not None
    assert again.inode != group.inode
    assert again in kernel.groups.pod_groups()


def test_groups_are_born_in_the_parents(kernel: Kernel, group: PodGroup) -> None:
    """The directory above each tree's group is one to be watched, in at least one tree."""
    above = {directory.parent for _, directory in group.trees}
    assert above & set(kernel.groups.parents())


def test_containers_are_told_by_their_ids(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """Each leaf has the processes of its container, as the one found through a process has."""
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
    """A fresh group has none of its own, and each of the limits that it has room for."""
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
    """Set in order and proven; lifted in reverse, and all is as before."""
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


def test_a_number_of_somebody_else_comes_back(
    rig: KernelRig, kernel: Kernel, group: PodGroup
) -> None:
    """A limit on tasks that kubelet has set is put back, not lifted."""
    limit = kernel.limits.current(group, rig.oci)[-1]
    rig.write(limit, "77")
    numbered = kernel.limits.current(group, rig.oci)[-1]
    assert numbered == replace(limit, old="77")
    kernel.limits.set_limit(group, numbered)
    kernel.limits.lift(group, numbered)
    assert kernel.limits.current(group, rig.oci)[-1] == numbered


def test_a_leftover_of_ours_is_not_put_back(
    rig: KernelRig, kernel: Kernel, group: PodGroup
) -> None:
    """The values of a forgotten gate must not become old values of the next one."""
    limits = kernel.limits.current(group, rig.oci)
    for limit in limits:
        kernel.limits.set_limit(group, limit)
    assert kernel.limits.current(group, rig.oci) == limits


def test_what_somebody_else_has_changed_is_told(
    rig: KernelRig, kernel: Kernel, group: PodGroup
) -> None:
    """Exactly the limit that was changed; set again, it stands again."""
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
    """No limit is offered, and none is claimed."""
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


def test_a_group_that_is_gone_needs_nothing(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """Every question has an answer, and every order is carried out: there is nothing to it."""
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
    """Its own processes are gone when it returns; its neighbour and another pod live on."""
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
    """What the hold does first must not be in the way of what it does next."""
    rig.container(uid, new_id())
    for limit in kernel.limits.current(group, rig.oci):
        kernel.limits.set_limit(group, limit)
    (leaf,) = kernel.groups.leaves(group)
    kernel.killer.kill(leaf)
    assert kernel.groups.pids(leaf) == ()


def test_a_process_that_cannot_die_is_told(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """In uninterruptible sleep it stays, for a while or for ever: that is not an error here."""
    kept = rig.container(uid, new_id())
    (leaf,) = kernel.groups.leaves(group)
    rig.make_immune(kept)
    kernel.killer.kill(leaf)
    assert kernel.groups.pids(leaf) == (kept,)


def test_a_pod_is_never_killed_nor_what_is_no_pods(
    rig: KernelRig, kernel: Kernel, uid: str, group: PodGroup
) -> None:
    """Only a container's leaf: a pod's slice that empties drops its limits."""
    pid = rig.container(uid, one := new_id())
    own = group.trees[0][1]
    for directory in (own, own.parent, own / one / "..", own.parent.parent):
        with pytest.raises(GateFailed) as refused:
            kernel.killer.kill(Leaf(directory=directory, container_id=one))
        assert code_of(refused) == "kill-refused"
    (leaf,) = kernel.groups.leaves(group)
    assert kernel.groups.pids(leaf) == (pid,)


def test_a_machine_is_of_one_kind(kernel: Kernel, group: PodGroup) -> None:
    """The layout says which trees have the pod."""
    labels = {label for label, _ in group.trees}
    assert (group.layout is Layout.UNIFIED) == (labels == {""})
    assert (group.layout is Layout.LEGACY) == ("" not in labels)
