# SPDX-License-Identifier: Apache-2.0
"""TasksMax and failed scopes through systemctl: what it is called with, and what it answers."""

from dataclasses import replace
from pathlib import Path

import pytest

from breakglass.agent.kernel.port import PodGroup
from breakglass.errors import GateFailed
from tests.support.fake_host import Host
from tests.support.gated_pod import POD, SLICE, UNIT, Gated


def test_a_very_old_systemd_says_infinity_in_digits(tmp_path: Path) -> None:
    """The largest number of 64 bits means infinity."""
    gated = Gated(tmp_path, "v2", SLICE)
    gated.host.systemd.install({UNIT: {"TasksMax": str(2**64 - 1)}})
    assert gated.limits()[-1].old == "infinity"


@pytest.mark.parametrize(
    "odd", ["", "0 ", "max; reboot", "-1", "1\nmax", "TasksMax=5", "0%", "9" * 21]
)
def test_an_old_value_from_the_log_is_checked_before_systemd_hears_it(
    tmp_path: Path, odd: str
) -> None:
    """A value from the log becomes an argument of systemctl: only a number or "infinity" may."""
    gated = Gated(tmp_path, "v2", SLICE)
    limit = gated.set_all()[-1]
    before = len(gated.host.systemd.calls)
    with pytest.raises(GateFailed):
        gated.kernel.limits.lift(gated.group, replace(limit, old=odd))
    assert len(gated.host.systemd.calls) == before


def test_systemctl_is_called_as_it_should_be(tmp_path: Path) -> None:
    """It is called with an empty environment, options before "--" and exact names after it."""
    gated = Gated(tmp_path, "v2", SLICE)
    gated.set_all()
    calls = gated.host.systemd.calls
    assert {call[-1] for call in calls} == {""}
    assert [call[2:-1] for call in calls] == [
        ["show", "--property=TasksMax", "--value", "--", UNIT],
        ["set-property", "--runtime", "--", UNIT, "TasksMax=1"],
        ["show", "--property=TasksMax", "--value", "--", UNIT],
    ]


def scope(number: int, *, slice_: str = UNIT, state: str = "failed") -> dict[str, dict[str, str]]:
    """Return a scope unit as crun leaves it."""
    name = f"cri-containerd-{number:064x}.scope"
    return {name: {"Slice": slice_, "ActiveState": state}}


def test_failed_scopes_are_reset_by_name_and_only_the_pods_own(tmp_path: Path) -> None:
    """Other pods' scopes, and units that only resemble a scope, are not reset."""
    gated = Gated(tmp_path, "v2", SLICE)
    other = UNIT.replace("123456789abc", "123456789abd")
    theirs = scope(1, slice_=other) | scope(2, slice_="system.slice")
    odd = {"cri-containerd-x.scope": {"Slice": UNIT, "ActiveState": "failed"}}
    living = scope(3, state="active")
    own = {key: value for number in range(10, 260) for key, value in scope(number).items()}
    gated.host.systemd.install(theirs | odd | living | own)
    assert gated.kernel.limits.reset_failed(gated.group) == len(own)
    assert gated.host.systemd.units == theirs | odd | living
    assert gated.kernel.limits.reset_failed(gated.group) == 0
    resets = [call for call in gated.host.systemd.calls if "reset-failed" in call]
    assert all(call[2:4] == ["reset-failed", "--"] for call in resets)
    assert sum(len(call) - 5 for call in resets) == len(own)


def test_without_slices_systemd_is_not_asked(tmp_path: Path) -> None:
    """With the cgroupfs driver there are no units, and systemctl is not called."""
    assert (
        Gated(tmp_path, "v2", POD).kernel.limits.reset_failed(group_without_systemd(tmp_path / "x"))
        == 0
    )


def group_without_systemd(root: Path) -> PodGroup:
    """Return a pod's group on a machine without systemd."""
    return Host(root, unified=True, v1=False).pod(POD)
