# SPDX-License-Identifier: Apache-2.0
"""Leases in the log: begun once, extended once by each command, ended once."""

from pathlib import Path

from breakglass.agent.hold.leases import EXPIRED, RELEASED
from breakglass.core.hold_entries import HoldBegun, HoldEnded, HoldExtended
from tests.support.held_node import HeldNode


async def test_a_lease_that_runs_on_does_not_expire(tmp_path: Path) -> None:
    """It may have been extended while its end was on the way; a release ends it, and once."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=600)
        assert node.agent is not None
        leases = node.agent.parts.hold.leases
        (hold,) = node.state.active_holds
        await leases.end(hold, EXPIRED)
        assert node.state.active_holds == (hold,)
        await leases.end(hold, RELEASED, by="root")
        await leases.end(hold, RELEASED, by="root")
        assert [(one.why, one.by) for one in node.bodies(HoldEnded)] == [("released", "root")]


async def test_an_extension_counts_once(tmp_path: Path) -> None:
    """A command that is resumed after a crash extends no second time."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=600)
        await node.submit(verb="extend", hold_s=1200)
        assert [one.hold_s for one in node.bodies(HoldExtended)] == [1200]
        assert len(node.bodies(HoldBegun)) == 1


async def test_a_change_is_taken_once(tmp_path: Path) -> None:
    """The watch acts at once when a hold begins or ends, and then ticks on."""
    async with HeldNode(tmp_path) as node:
        await node.submit(hold_s=600)
        await node.advance(5)
        assert node.agent is not None
        assert not node.agent.parts.hold.leases.take_change()
