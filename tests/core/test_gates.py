# SPDX-License-Identifier: Apache-2.0
"""The table of gates: the limits for each kind of pod, their order, and the resulting gate."""

import itertools

import pytest

from breakglass.core.gates import Gate, Layout, LimitChoice, Oci, choose_limits, gate_of

DESCENDANTS = LimitChoice(kind=Gate.DESCENDANTS, early=True)
CONTAINERS = [Oci.RUNC, Oci.CRUN, Oci.UNKNOWN]


def test_a_virtual_machine_has_no_gate_anywhere() -> None:
    """Our limits do not reach a guest's kernel, so a virtual machine is only watched."""
    for layout, is_slice in itertools.product(Layout, (True, False)):
        assert choose_limits(layout, is_slice=is_slice, oci=Oci.VIRTUAL_MACHINE) == ()
        everything = frozenset({Gate.DESCENDANTS, Gate.PIDS, Gate.PROPERTY})
        held = gate_of(layout, is_slice=is_slice, oci=Oci.VIRTUAL_MACHINE, standing=everything)
        assert held is Gate.WATCH_ONLY


@pytest.mark.parametrize("oci", CONTAINERS)
@pytest.mark.parametrize(
    ("layout", "is_slice", "belts"),
    [
        (Layout.UNIFIED, False, (DESCENDANTS, LimitChoice(kind=Gate.PIDS, early=False))),
        (Layout.UNIFIED, True, (DESCENDANTS, LimitChoice(kind=Gate.PROPERTY, early=False))),
        (Layout.HYBRID, False, (DESCENDANTS, LimitChoice(kind=Gate.PIDS, early=True))),
        (Layout.HYBRID, True, (DESCENDANTS, LimitChoice(kind=Gate.PROPERTY, early=False))),
        (Layout.LEGACY, False, (LimitChoice(kind=Gate.PIDS, early=True),)),
        (
            Layout.LEGACY,
            True,
            (LimitChoice(kind=Gate.PROPERTY, early=True), LimitChoice(kind=Gate.PIDS, early=True)),
        ),
    ],
)
def test_each_kind_of_host_has_its_limits_in_their_order(
    layout: Layout, oci: Oci, belts: tuple[LimitChoice, ...], *, is_slice: bool
) -> None:
    """The host decides alone; at least one limit is set before any container is stopped."""
    assert choose_limits(layout, is_slice=is_slice, oci=oci) == belts
    assert any(belt.early for belt in belts)


@pytest.mark.parametrize(
    ("layout", "is_slice", "oci", "standing", "gate"),
    [
        # A failed mkdir of a container's group blocks every runtime ...
        (Layout.UNIFIED, False, Oci.RUNC, "descendants", Gate.DESCENDANTS),
        (Layout.UNIFIED, True, Oci.CRUN, "descendants property", Gate.DESCENDANTS),
        (Layout.UNIFIED, True, Oci.UNKNOWN, "descendants", Gate.DESCENDANTS),
        (Layout.HYBRID, True, Oci.RUNC, "descendants", Gate.DESCENDANTS),
        (Layout.HYBRID, True, Oci.UNKNOWN, "descendants", Gate.DESCENDANTS),
        (Layout.HYBRID, False, Oci.CRUN, "descendants", Gate.DESCENDANTS),
        # ... but runc on a hybrid host: there the task limit is the gate, and unknown needs both.
        (Layout.HYBRID, False, Oci.RUNC, "descendants", Gate.WATCH_ONLY),
        (Layout.HYBRID, False, Oci.RUNC, "descendants pids", Gate.PIDS),
        (Layout.HYBRID, False, Oci.RUNC, "pids", Gate.PIDS),
        (Layout.HYBRID, False, Oci.UNKNOWN, "descendants", Gate.WATCH_ONLY),
        (Layout.HYBRID, False, Oci.UNKNOWN, "pids", Gate.WATCH_ONLY),
        (Layout.HYBRID, False, Oci.UNKNOWN, "descendants pids", Gate.PIDS),
        # A limit on tasks never blocks crun.
        (Layout.HYBRID, False, Oci.CRUN, "pids", Gate.WATCH_ONLY),
        (Layout.UNIFIED, False, Oci.CRUN, "pids", Gate.WATCH_ONLY),
        (Layout.UNIFIED, True, Oci.UNKNOWN, "property", Gate.WATCH_ONLY),
        (Layout.LEGACY, False, Oci.CRUN, "pids", Gate.WATCH_ONLY),
        (Layout.LEGACY, False, Oci.UNKNOWN, "pids", Gate.WATCH_ONLY),
        (Layout.LEGACY, True, Oci.UNKNOWN, "property pids", Gate.WATCH_ONLY),
        # It blocks runc; systemd's property is named before the file that systemd may rewrite.
        (Layout.UNIFIED, False, Oci.RUNC, "pids", Gate.PIDS),
        (Layout.UNIFIED, True, Oci.RUNC, "property", Gate.PROPERTY),
        (Layout.LEGACY, False, Oci.RUNC, "pids", Gate.PIDS),
        (Layout.LEGACY, True, Oci.RUNC, "property pids", Gate.PROPERTY),
        (Layout.LEGACY, True, Oci.RUNC, "pids", Gate.PIDS),
    ],
)
def test_what_holds_is_what_was_measured(
    layout: Layout, oci: Oci, standing: str, gate: Gate, *, is_slice: bool
) -> None:
    """The gate is the one that the proven limits make with this runtime on this host."""
    proven = frozenset(Gate(one) for one in standing.split())
    assert gate_of(layout, is_slice=is_slice, oci=oci, standing=proven) is gate


@pytest.mark.parametrize("oci", Oci)
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("is_slice", [True, False])
def test_nothing_standing_is_watch_only(layout: Layout, oci: Oci, *, is_slice: bool) -> None:
    """Without a proven limit the gate is watch-only on every host."""
    held = gate_of(layout, is_slice=is_slice, oci=oci, standing=frozenset())
    assert held is Gate.WATCH_ONLY


@pytest.mark.parametrize("oci", CONTAINERS)
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("is_slice", [True, False])
def test_more_limits_never_hold_less(layout: Layout, oci: Oci, *, is_slice: bool) -> None:
    """Setting more limits never weakens a gate."""
    kinds = [belt.kind for belt in choose_limits(layout, is_slice=is_slice, oci=oci)]
    sets = [frozenset(some) for count in range(4) for some in itertools.combinations(kinds, count)]
    held = {
        one: gate_of(layout, is_slice=is_slice, oci=oci, standing=one) is not Gate.WATCH_ONLY
        for one in sets
    }
    for few, many in itertools.product(sets, sets):
        assert not (few <= many and held[few] and not held[many]), (few, many)
