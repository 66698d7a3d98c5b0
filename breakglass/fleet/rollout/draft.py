# SPDX-License-Identifier: Apache-2.0
"""A draft for this fleet: what a person asks for, counted against the inventory.

The limit of nodes is what the inventory has for the targets, unless a smaller or larger one is
asked for, so that a typing error in a selector shows before anybody signs.  A hold of which nothing
is said lasts as long as is usual, or as the shortest of the governing policies allows.  What the
trust would never let through (no policy, too many nodes, too long a hold) is refused here and not
on the nodes at night.
"""

import os
from dataclasses import dataclass, replace
from datetime import datetime

from breakglass.core import bounds, names
from breakglass.core.command import Command, TrustPin, Verb
from breakglass.core.decide import CheckedSignatures, objections
from breakglass.core.draft import DraftRequest, draft_command
from breakglass.core.reasons import Reason
from breakglass.core.trust import Trust
from breakglass.core.trust_parts import Policy
from breakglass.errors import UsageError
from breakglass.fleet.home.inventory import Inventory, InventoryNode

_SHOWN_CLUSTERS = 8

# What approvals can still mend.
_OPEN = frozenset({Reason.QUORUM_SHORT, Reason.SAME_PERSON, Reason.REQUESTER_APPROVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A command that nobody approved yet, and the inventory's nodes that it is for."""

    command: Command
    nodes: tuple[InventoryNode, ...]


def draft_for(
    asked: DraftRequest,
    *,
    trust: Trust,
    inventory: Inventory,
    now: datetime,
    max_nodes: int | None = None,
) -> Drafted:
    """Return the command that does what was asked for, on this fleet.

    Args:
        asked: what to do; its own `max_nodes` is replaced, and its `hold` where it is "".
        trust: the trust in force.
        inventory: the nodes; an empty one, as in a new home, counts as one node.
        now: one reading of the clock.
        max_nodes: the limit, where a person chose one.

    Raises:
        UsageError: the target is empty or wild, or the inventory has no such node.
        RefusedError: the trust would never let it through.
    """
    entropy = os.urandom(10)

    def draft(limit: int, hold: str) -> Command:
        return draft_command(
            replace(asked, max_nodes=limit, hold=hold),
            domain=trust.domain,
            trust=TrustPin(version=trust.version, sha256=trust.sha256),
            now=now,
            entropy=entropy,
        )

    command = draft(1, asked.hold)
    nodes = inventory.covered_by(command.targets)
    if inventory.nodes and not nodes:
        raise UsageError(
            f"expected targets that are in the inventory, got none of {len(inventory.nodes)} nodes",
            code="empty-target",
            hint=_near(inventory),
        )
    hold = asked.hold or names.render_duration(_usual_hold_s(command, trust))
    command = draft(max(1, len(nodes)) if max_nodes is None else max_nodes, hold)
    nobody = CheckedSignatures(approvals=(), defects=())
    for refused in objections(command, nobody, trust, now, skew_s=bounds.DEFAULT_SKEW_S):
        if refused.reason not in _OPEN:
            raise refused.as_error()
    return Drafted(command=command, nodes=nodes)


def governing(command: Command, trust: Trust) -> tuple[Policy, ...]:
    """Return the policy that governs a command on each of its clusters, where there is one."""
    action = command.action
    found = (
        trust.policy_for(action.verb, cluster, action.namespace)
        for cluster in command.targets.clusters
    )
    return tuple(policy for policy in found if policy is not None)


def _usual_hold_s(command: Command, trust: Trust) -> int:
    """Return how long to hold where nobody said it: as usual, or as long as every policy allows."""
    longest_s = min(
        (one.max_hold_s for one in governing(command, trust)), default=bounds.DEFAULT_HOLD_S
    )
    if command.action.verb is Verb.EXTEND and not longest_s:
        return bounds.DEFAULT_HOLD_S  # it cannot be drafted; the refusal says why
    return min(bounds.DEFAULT_HOLD_S, longest_s)


def _near(inventory: Inventory) -> str:
    clusters = sorted({node.cluster for node in inventory.nodes})
    shown = ", ".join(clusters[:_SHOWN_CLUSTERS]) + (
        " ..." if len(clusters) > _SHOWN_CLUSTERS else ""
    )
    return f"the inventory's clusters are {names.quoted(shown)[1:-1]}"
