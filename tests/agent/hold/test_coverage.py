# SPDX-License-Identifier: Apache-2.0
"""Which holds cover a pod: by its revision where the runtime has shown it, else by its name."""

from pathlib import Path

from tests.support.held_node import HeldNode, revised

GOOD = "7c9d8f6b54"


async def test_a_gated_pod_is_covered_by_what_the_runtime_has_shown_of_it(tmp_path: Path) -> None:
    """The hold of another revision does not keep it; its own hold comes first."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        await node.submit(revision=revised(node.spec, GOOD).revision)
        assert node.agent is not None
        coverage = node.agent.parts.hold.coverage
        whole, other = coverage.active
        (gated,) = coverage.gated
        assert coverage.holds_of(gated) == (whole,)
        assert coverage.kept_by((whole, other)) == coverage.kept_only_by((whole,)) == (gated,)
        assert coverage.kept_by((other,)) == coverage.kept_only_by((other,)) == ()


async def test_after_the_release_no_hold_covers_it(tmp_path: Path) -> None:
    """An answer is of the moment of asking."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        assert node.agent is not None
        coverage = node.agent.parts.hold.coverage
        (gated,) = coverage.gated
        await node.submit(verb="release")
        assert (coverage.active, coverage.gated, coverage.holds_of(gated)) == ((), (), ())
