# SPDX-License-Identifier: Apache-2.0
"""Which nodes a command is delivered to, and what is refused before any is asked."""

from dataclasses import replace

import pytest

from breakglass.errors import RefusedError
from breakglass.fleet.home.inventory import Inventory
from breakglass.fleet.rollout.roll_out import targeted
from tests.support.fake_node import FakeNode
from tests.support.organisation import Organisation


@pytest.mark.parametrize(
    ("drafted", "names", "code"),
    [
        ({"clusters": "prod-b"}, "n1", "no-nodes"),
        ({"nodes": "x*"}, "n1", "no-nodes"),
        ({"max_nodes": 1}, "n1 n2", "too-many-nodes"),
    ],
)
def test_targets_that_cannot_be_honoured_are_refused(
    drafted: dict[str, object], names: str, code: str
) -> None:
    """A command whose targets or caps do not fit the inventory is refused (P8)."""
    organisation = Organisation()
    inventory = Inventory(
        nodes=tuple(FakeNode(organisation=organisation, name=one).row for one in names.split())
    )
    with pytest.raises(RefusedError) as error:
        targeted(organisation.draft(**drafted), inventory)  # type: ignore[arg-type]
    assert error.value.stable_code == code


def test_a_rollout_of_a_later_version_is_refused() -> None:
    """A signed canary or halt after failures is refused, because this version would ignore it."""
    organisation = Organisation()
    node = FakeNode(organisation=organisation)
    command = organisation.draft()
    for rollout in (replace(command.rollout, canary=1), replace(command.rollout, max_failures=0)):
        with pytest.raises(RefusedError) as error:
            targeted(replace(command, rollout=rollout), Inventory(nodes=(node.row,)))
        assert error.value.stable_code == "rollout-unsupported"
