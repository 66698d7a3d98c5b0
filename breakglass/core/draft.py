# SPDX-License-Identifier: Apache-2.0
"""Make a command from an operator's request.

An error that the nodes would refuse is found here and names the word to change: an empty target, a
wildcard, a window that is too long.  Every draft passes through `parse_command`, so the nodes will
accept its form.

This module signs, delivers and writes nothing.  The clock reading and the entropy are arguments.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from breakglass.core import bounds, names
from breakglass.core.command import (
    Action,
    Caps,
    Command,
    Mode,
    Rollout,
    Targets,
    TrustPin,
    Verb,
    parse_command,
    render_command,
)
from breakglass.core.targets import EVERY_NODE
from breakglass.errors import UsageError

DEFAULT_MAX_PODS = 10
_WILD = frozenset("*?")


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """What an operator asked for, as typed.

    Attributes:
        verb: what the command does.
        workload: "namespace/daemonset" or "namespace/daemonset@revision".
        clusters: their names, at least one.
        nodes: patterns; without nodes and pools, every node of the clusters is a target.
        max_nodes: how many nodes the inventory has for these targets.
        image: stop and evict: only pods with a container that has this image digest.
        grace: stop and evict.
        hold: stop, evict and extend; "" for the default.  A release has none.
        holds_of: release and extend: the id of the command whose hold to change.
    """

    verb: Verb
    workload: str
    clusters: tuple[str, ...]
    reason: str
    requester: str
    max_nodes: int
    nodes: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    incident: str = ""
    image: str = ""
    grace: str = "30s"
    hold: str = ""
    holds_of: str = ""
    valid: str = "1h"
    mode: Mode = Mode.EXECUTE
    max_pods_per_node: int = DEFAULT_MAX_PODS
    max_parallel: int = bounds.DEFAULT_PARALLEL


def draft_command(
    asked: DraftRequest, *, domain: str, trust: TrustPin, now: datetime, entropy: bytes
) -> Command:
    """Return the command for a request.

    Args:
        asked: what to do, and where.
        domain: the domain of the nodes.
        trust: the trust in force.
        now: one reading of the clock, in UTC; the window begins there.
        entropy: ten random bytes for the id.

    Raises:
        UsageError: the target is empty (code "empty-target") or has a wildcard where none is
            allowed ("wild-target"), the reason is missing, or a hold is to be extended by 0 s.
        Malformed: a name, pattern or duration is not well formed.
    """
    _verify_targets(asked)
    if not asked.reason.strip():
        raise UsageError("expected a reason, got none", hint="say why with --reason")
    workload, at, revision = asked.workload.partition("@")
    if at:
        names.parse_revision(revision)
    begins = now.replace(microsecond=0)
    command = Command(
        id=names.render_id(int(now.timestamp() * 1000), entropy),
        domain=domain,
        trust=trust,
        action=_action(asked, workload, revision),
        targets=Targets(
            clusters=asked.clusters,
            nodes=asked.nodes or (() if asked.pools else (EVERY_NODE,)),
            pools=asked.pools,
            excepted=asked.excepted,
        ),
        caps=Caps(max_nodes=asked.max_nodes, max_pods_per_node=asked.max_pods_per_node),
        rollout=Rollout(
            canary=0,
            max_parallel=asked.max_parallel,
            max_failures=asked.max_nodes,  # failing nodes must not halt an emergency stop
        ),
        mode=asked.mode,
        incident=asked.incident,
        reason=asked.reason,
        requester=asked.requester,
        created=begins,
        not_before=begins,
        not_after=begins + timedelta(seconds=_valid_s(asked.valid)),
    )
    return parse_command(render_command(command))


def _verify_targets(asked: DraftRequest) -> None:
    if not asked.workload:
        raise UsageError(
            "expected a workload, got none",
            code="empty-target",
            hint="name one DaemonSet as namespace/name",
        )
    if not asked.clusters or not all((*asked.clusters, *asked.nodes, *asked.pools)):
        raise UsageError(
            "expected clusters, nodes and pools by name, got an empty one",
            code="empty-target",
            hint="name each cluster with --cluster",
        )
    for exact in (asked.workload, *asked.clusters, *asked.pools):
        if _WILD & set(exact):
            raise UsageError(
                f"expected an exact name, got {names.quoted(exact)}",
                code="wild-target",
                hint="name each workload, cluster and pool exactly; wildcards are only for nodes",
            )
    for pattern in asked.nodes:
        if set(pattern) <= _WILD:
            raise UsageError(
                f"expected a pattern with part of a name, got {names.quoted(pattern)}",
                code="wild-target",
                hint="leave out --node to mean every node of the named clusters",
            )


def _action(asked: DraftRequest, workload: str, revision: str) -> Action:
    verb = asked.verb
    namespace, name = names.parse_workload(workload)
    grace = asked.grace if verb.stops else "0s"
    hold = (
        "0s" if verb is Verb.RELEASE else asked.hold or names.render_duration(bounds.DEFAULT_HOLD_S)
    )
    hold_s = names.parse_duration(hold, max_s=bounds.MAX_HOLD_S)
    if verb is Verb.EXTEND and not hold_s:
        raise UsageError(
            "expected a time to extend the hold by, got 0s",
            hint="give --hold, such as 2h; to end a hold draft a release",
        )
    return Action(
        verb=verb,
        namespace=namespace,
        name=name,
        revision=revision,
        image=names.parse_image(asked.image) if asked.image else "",
        grace_s=names.parse_duration(grace, max_s=bounds.MAX_GRACE_S),
        hold_s=hold_s,
        holds_of=names.parse_id(asked.holds_of) if asked.holds_of else "",
    )


def _valid_s(text: str) -> int:
    valid_s = names.parse_duration(text, max_s=bounds.MAX_WINDOW_S)
    if not valid_s:
        raise UsageError("expected a validity above 0s, got 0s", hint="give --valid, such as 1h")
    return valid_s
