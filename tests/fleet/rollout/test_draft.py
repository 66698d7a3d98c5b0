# SPDX-License-Identifier: Apache-2.0
"""Drafts against the inventory and the trust."""

from dataclasses import replace

import pytest

from breakglass.core.command import Verb
from breakglass.core.draft import DraftRequest
from breakglass.errors import RefusedError, UsageError
from breakglass.fleet.home.inventory import Inventory
from breakglass.fleet.rollout.draft import draft_for, governing
from tests.support.fake_node import FakeNode
from tests.support.organisation import NOW, Organisation, policy

ASKED = DraftRequest(
    verb=Verb.STOP,
    workload="monitoring/telemetry",
    clusters=("prod-a",),
    reason="it floods",
    requester="olga",
    max_nodes=1,
)


def inventory(organisation: Organisation, *names: str) -> Inventory:
    """Return an inventory of these nodes."""
    return Inventory(
        nodes=tuple(FakeNode(organisation=organisation, name=name).row for name in names)
    )


def test_the_limit_is_what_the_inventory_has() -> None:
    """`max_nodes` is the number of nodes that the targets cover, not a guess (P8)."""
    organisation = Organisation()
    nodes = inventory(organisation, "n1", "n2")
    drafted = draft_for(ASKED, trust=organisation.trust, inventory=nodes, now=NOW)
    assert drafted.command.caps.max_nodes == 2
    assert drafted.nodes == nodes.nodes


def test_a_cluster_that_the_inventory_does_not_know_is_refused() -> None:
    """A typing error shows before people sign, with the inventory's clusters."""
    organisation = Organisation()
    nodes = inventory(organisation, "n1")
    asked = replace(ASKED, clusters=("prod-z",))
    with pytest.raises(UsageError) as error:
        draft_for(asked, trust=organisation.trust, inventory=nodes, now=NOW)
    assert "prod-a" in error.value.hint


@pytest.mark.parametrize(
    ("longest", "hold_s"), [(("24h",), 7200), (("1h",), 3600), (("24h", "30m"), 1800), (("0s",), 0)]
)
def test_a_hold_lasts_as_is_usual_or_as_the_policies_allow(
    longest: tuple[str, ...], hold_s: int
) -> None:
    """The shortest hold of all governing policies, so that a default is never refused (P8)."""
    clusters = tuple(f"prod-{place}" for place in range(len(longest)))
    organisation = Organisation(
        policies=tuple(
            policy(cluster, clusters=cluster, max_hold=one)
            for cluster, one in zip(clusters, longest, strict=True)
        )
    )
    asked = replace(ASKED, clusters=clusters)
    drafted = draft_for(asked, trust=organisation.trust, inventory=Inventory(), now=NOW)
    assert drafted.command.action.hold_s == hold_s
    assert len(governing(drafted.command, organisation.trust)) == len(longest)


def test_an_extend_under_a_policy_without_holds_is_refused() -> None:
    """It is refused with the policy's code, not as a wrong command line."""
    organisation = Organisation(policies=(policy(max_hold="0s"),))
    asked = replace(ASKED, verb=Verb.EXTEND)
    with pytest.raises(RefusedError) as error:
        draft_for(asked, trust=organisation.trust, inventory=Inventory(), now=NOW)
    assert error.value.stable_code == "hold-too-long"


def test_a_hold_longer_than_the_policy_is_refused() -> None:
    """The refusal says how long it may be."""
    organisation = Organisation(policies=(policy(max_hold="1h"),))
    asked = replace(ASKED, hold="2h")
    with pytest.raises(RefusedError, match="at most 1h, got 2h") as error:
        draft_for(asked, trust=organisation.trust, inventory=Inventory(), now=NOW)
    assert error.value.stable_code == "hold-too-long"


@pytest.mark.parametrize(
    ("given", "code"), [({"clusters": "other"}, "no-policy"), ({"max_nodes": 1}, "too-many-nodes")]
)
def test_what_the_trust_would_never_let_through_is_refused(
    given: dict[str, object], code: str
) -> None:
    """It is refused when it is drafted, not on the nodes."""
    organisation = Organisation(policies=(policy(**given),))  # type: ignore[arg-type]
    nodes = inventory(organisation, "n1", "n2")
    with pytest.raises(RefusedError) as error:
        draft_for(ASKED, trust=organisation.trust, inventory=nodes, now=NOW)
    assert error.value.stable_code == code
