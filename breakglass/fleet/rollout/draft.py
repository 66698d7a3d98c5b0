# SPDX-License-Identifier: Apache-2.0
"""Draft a command, and check it against the inventory and the trust.

The cap `max_nodes` is the number of inventory nodes that the targets cover, unless the person gives
another one, so that a typing error in a selector shows before people sign.  Without `--hold`, the
hold lasts the default time, or the shortest `max_hold` of the governing policies if that is less.
A draft that the trust can never approve (no policy, too many nodes, too long a hold) is refused
here, before it reaches a node.
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

# Objections that more approvals can still settle.
_OPEN = frozenset({Reason.QUORUM_SHORT, Reason.SAME_PERSON, Reason.REQUESTER_APPROVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A command without approvals, and the inventory's nodes that it targets."""

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
    """Return the command of a draft request, checked against this fleet.

    Args:
        asked: the request; its `max_nodes` is replaced, and so is its `hold` if that is "".
        trust: the trust in force.
        inventory: the nodes; an empty one, as in a new home, counts as one node.
        now: one reading of the clock.
        max_nodes: the cap that a person chose, or None.

    Raises:
        UsageError: the target is empty or a wildcard, or the inventory has no such node.
        RefusedError: the trust can never approve it.
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
            f"expected targets in the inventory, got 0 of its {len(inventory.nodes)} nodes",
            code="empty-target",
            hint=_clusters(inventory),
        )
    hold = asked.hold or names.render_duration(_usual_hold_s(command, trust))
    command = draft(max(1, len(nodes)) if max_nodes is None else max_nodes, hold)
    unsigned = CheckedSignatures(approvals=(), defects=())
    for refused in objections(command, unsigned, trust, now, skew_s=bounds.DEFAULT_SKEW_S):
        if refused.reason not in _OPEN:
            raise refused.as_error()
    return Drafted(command=command, nodes=nodes)


def governing(command: Command, trust: Trust) -> tuple[Policy, ...]:
    """Return the policy that governs a command on each of its clusters, if there is one."""
    action = command.action
    found = (
        trust.policy_for(action.verb, cluster, action.namespace)
        for cluster in command.targets.clusters
    )
    return tuple(policy for policy in found if policy is not None)


def _usual_hold_s(command: Command, trust: Trust) -> int:
    """Return how long to hold without `--hold`: the default, or less if a policy allows less."""
    longest_s = min(
        (one.max_hold_s for one in governing(command, trust)), default=bounds.DEFAULT_HOLD_S
    )
    if command.action.verb is Verb.EXTEND and not longest_s:
        return bounds.DEFAULT_HOLD_S  # no policy allows a hold: the refusal will say so
    return min(bounds.DEFAULT_HOLD_S, longest_s)


def _clusters(inventory: Inventory) -> str:
    clusters = sorted({node.cluster for node in inventory.nodes})
    shown = ", ".join(clusters[:_SHOWN_CLUSTERS]) + (
        " ..." if len(clusters) > _SHOWN_CLUSTERS else ""
    )
    return f"the inventory's clusters are {names.quoted(shown)[1:-1]}"
