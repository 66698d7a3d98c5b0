# SPDX-License-Identifier: Apache-2.0
"""Decide whether enough distinct people signed exactly this command, and whether it is valid now.

`decide` is pure.  Its steps:

 (1) bounds: the size of the text, and one to `MAX_SIGNATURES` signatures
 (2) each signature by itself: parse it, find its key in the trust, verify it over the text.  A
     defective one is kept as a defect and refuses nothing by itself, because anyone who carries the
     file can add one
 (3) if no signature is valid, refuse with the first defect: text without any valid approval is
     never parsed
 (4) the text: canonical, complete, no unknown key, its summary generated from the other fields
 (5) the domain, and the trust document that the command names
 (6) the validity window, with the tolerated clock skew
 (7) the policies: for each named cluster, the first that governs.  All of them must be satisfied,
     so that a cluster with a weak policy cannot be named to weaken that of another cluster
 (8) the policies' caps
 (9) the quorum: distinct people, without the requester unless the policy allows it

Only people have authority (P2), and only `decide` makes an `Approved`.  It knows nothing of the
node: the agent then checks the cluster, the protected workloads and repeated deliveries.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta
from typing import NoReturn, TypeAlias

from breakglass.core import bounds, names
from breakglass.core.command import NAMESPACE, Command, parse_command
from breakglass.core.reasons import (
    HINTS,
    Reason,
    Refused,
    needed_and_have,
    reason_of,
    refused_as_malformed,
)
from breakglass.core.sshkey import fingerprint
from breakglass.core.sshsig import parse_armor, verify_signature
from breakglass.core.trust import Trust
from breakglass.core.trust_parts import Policy, QuorumPart
from breakglass.errors import BadSignature, Malformed

__all__ = [
    "Approval",
    "Approved",
    "CheckedSignatures",
    "Reason",
    "Refused",
    "SignatureDefect",
    "Verdict",
    "count_people",
    "decide",
    "objections",
]

_MADE_BY_DECIDE = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One valid signature of one person; `flags` and `counter` are None for ordinary keys."""

    person: str
    fingerprint: str
    key_kind: str
    flags: int | None
    counter: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureDefect:
    """One signature that does not count; `person` is "" when the trust does not list its key."""

    reason: Reason
    person: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSignatures:
    """The valid approvals and the defective signatures of a file, in the file's order."""

    approvals: tuple[Approval, ...]
    defects: tuple[SignatureDefect, ...]

    @property
    def people(self) -> tuple[str, ...]:
        """The distinct people who approved, in the order of their first approvals."""
        return tuple(dict.fromkeys(one.person for one in self.approvals))


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """A command with its quorum; only `decide` can make one.

    Attributes:
        command: the approved command.
        text: the bytes that were signed.
        sha256: their digest.
        approvals: one per person.
        policies: the names of the policies that were satisfied.
        decided_at: the clock reading that the decision was made with.
    """

    command: Command
    text: bytes
    sha256: str
    approvals: tuple[Approval, ...]
    policies: tuple[str, ...]
    decided_at: datetime
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Raise `TypeError` for a caller other than `decide`, and for a copy by `replace`."""
        if proof is not _MADE_BY_DECIDE:
            raise TypeError("only decide makes an Approved")

    def __bool__(self) -> NoReturn:
        """Raise `TypeError`: `if verdict` would be true for a refusal too."""
        raise TypeError("a verdict has no truth value; check its type")


Verdict: TypeAlias = Approved | Refused


def decide(
    text: bytes, armors: tuple[bytes, ...], trust: Trust, now: datetime, *, skew_s: int
) -> Verdict:
    """Return `Approved` when enough people signed exactly `text`, and otherwise why it is refused.

    Args:
        text: the command's bytes as received.
        armors: the signature blocks that came with it.
        trust: the trust in force; every key is taken from it.
        now: one reading of the clock, in UTC.
        skew_s: how wrong that clock may be, in whole seconds.
    """
    if not 0 <= skew_s <= bounds.MAX_SKEW_S:
        raise ValueError(f"expected a skew of 0 to {bounds.MAX_SKEW_S} s, got {skew_s}")
    refused = next(_beyond_bounds(text, armors), None)  # (1)
    if refused is not None:
        return refused
    checked = count_people(text, armors, trust)  # (2)
    if not checked.approvals:  # (3)
        return _refused_by(checked.defects[0])
    try:
        command = parse_command(text)  # (4)
    except Malformed as error:
        return refused_as_malformed(error)
    refused = next(objections(command, checked, trust, now, skew_s=skew_s), None)  # (5) to (9)
    if refused is not None:
        return refused
    first = {one.person: one for one in reversed(checked.approvals)}
    return Approved(
        command=command,
        text=text,
        sha256=hashlib.sha256(text).hexdigest(),
        approvals=tuple(first[person] for person in checked.people),
        policies=tuple(policy.name for policy in _policies(command, trust)),
        decided_at=now,
        proof=_MADE_BY_DECIDE,
    )


def count_people(text: bytes, armors: tuple[bytes, ...], trust: Trust) -> CheckedSignatures:
    """Return the valid and the defective signatures over `text` under `trust`; decide nothing."""
    found = tuple(_check(text, armor, trust) for armor in armors)
    return CheckedSignatures(
        approvals=tuple(one for one in found if isinstance(one, Approval)),
        defects=tuple(one for one in found if isinstance(one, SignatureDefect)),
    )


def objections(
    command: Command, checked: CheckedSignatures, trust: Trust, now: datetime, *, skew_s: int
) -> Iterator[Refused]:
    """Yield every reason to refuse a command, in the order of steps (5) to (9)."""
    yield from _for_others(command, trust)  # (5)
    yield from _outside_window(command, now, timedelta(seconds=skew_s))  # (6)
    yield from _ungoverned(command, trust)  # (7)
    policies = _policies(command, trust)
    for policy in policies:
        yield from _beyond_caps(command, policy)  # (8)
    for policy in policies:
        yield from _short(command, policy, checked, trust)  # (9)


def _beyond_bounds(text: bytes, armors: tuple[bytes, ...]) -> Iterator[Refused]:
    if len(text) > bounds.MAX_COMMAND_BYTES:
        needed = f"at most {bounds.MAX_COMMAND_BYTES} bytes of text"
        yield Refused(reason=Reason.TOO_LARGE, needed=needed, have=str(len(text)))
    if len(armors) > bounds.MAX_SIGNATURES:
        needed = f"at most {bounds.MAX_SIGNATURES} signatures"
        yield Refused(reason=Reason.TOO_LARGE, needed=needed, have=str(len(armors)))
    if not armors:
        yield Refused(reason=Reason.UNSIGNED, needed="signatures of people", have="none")


def _check(text: bytes, armor: bytes, trust: Trust) -> Approval | SignatureDefect:
    try:
        signature = parse_armor(armor)
    except Malformed as error:
        return SignatureDefect(reason=Reason.SIGNATURE_MALFORMED, person="", message=error.message)
    # The sender chooses the key inside a signature.  It is only used to find the trusted key, which
    # gives the type, the algorithm and the requirements.
    owner = trust.person_of(signature.key_blob)
    if owner is None:
        message = f"expected a key that the trust lists, got {fingerprint(signature.key_blob)}"
        return SignatureDefect(reason=Reason.SIGNATURE_STRANGER, person="", message=message)
    person, trusted = owner
    try:
        verify_signature(
            signature,
            trusted.key,
            text,
            namespace=NAMESPACE,
            verify_required=trusted.verify_required,
        )
    except BadSignature as error:
        reason = reason_of(error.stable_code, otherwise=Reason.SIGNATURE_INVALID)
        return SignatureDefect(reason=reason, person=person.name, message=error.message)
    return Approval(
        person=person.name,
        fingerprint=trusted.key.fingerprint,
        key_kind=trusted.key.kind,
        flags=signature.flags,
        counter=signature.counter,
    )


def _refused_by(defect: SignatureDefect) -> Refused:
    needed, have = needed_and_have(defect.message)
    whose = f" in the approval of {defect.person}" if defect.person else ""
    return Refused(reason=defect.reason, needed=needed, have=have + whose)


def _for_others(command: Command, trust: Trust) -> Iterator[Refused]:
    if command.domain != trust.domain:
        yield Refused(
            reason=Reason.WRONG_DOMAIN,
            needed=f"a command for domain {trust.domain}",
            have=f"one for {command.domain}",
        )
    if (command.trust.version, command.trust.sha256) != (trust.version, trust.sha256):
        yield Refused(
            reason=Reason.WRONG_TRUST,
            needed=f"a command under trust version {trust.version} ({trust.sha256[:16]})",
            have=f"version {command.trust.version} ({command.trust.sha256[:16]})",
        )


def _outside_window(command: Command, now: datetime, skew: timedelta) -> Iterator[Refused]:
    if not command.not_before - skew <= now <= command.not_after + skew:
        first, last = names.render_time(command.not_before), names.render_time(command.not_after)
        yield Refused(
            reason=Reason.EXPIRED if now > command.not_after else Reason.NOT_YET_VALID,
            needed=f"a clock between {first} and {last}",
            have=f"{names.render_time(now)} here",
        )


def _policies(command: Command, trust: Trust) -> tuple[Policy, ...]:
    """Return the policies that govern the command on its clusters, each once."""
    found = (_policy_on(cluster, command, trust) for cluster in command.targets.clusters)
    return tuple(dict.fromkeys(policy for policy in found if policy is not None))


def _policy_on(cluster: str, command: Command, trust: Trust) -> Policy | None:
    return trust.policy_for(command.action.verb, cluster, command.action.namespace)


def _ungoverned(command: Command, trust: Trust) -> Iterator[Refused]:
    for cluster in command.targets.clusters:
        if _policy_on(cluster, command, trust) is None:
            yield Refused(
                reason=Reason.NO_POLICY,
                needed=f"a policy for {command.action.verb} in namespace"
                f" {command.action.namespace} on cluster {cluster}",
                have="none",
            )


def _beyond_caps(command: Command, policy: Policy) -> Iterator[Refused]:
    if command.action.hold_s > policy.max_hold_s:
        yield Refused(
            reason=Reason.HOLD_TOO_LONG,
            needed=f"a hold of at most {names.render_duration(policy.max_hold_s)}",
            have=names.render_duration(command.action.hold_s),
        )
    if command.caps.max_nodes > policy.max_nodes:
        yield Refused(
            reason=Reason.TOO_MANY_NODES,
            needed=f"a limit of at most {policy.max_nodes} nodes",
            have=str(command.caps.max_nodes),
        )


def _short(
    command: Command, policy: Policy, checked: CheckedSignatures, trust: Trust
) -> Iterator[Refused]:
    barred = "" if policy.requester_may_approve else command.requester
    for part in policy.quorum:
        members = trust.members(part.group)
        counted = tuple(one for one in checked.people if one in members and one != barred)
        if len(counted) < part.approvals:
            able = [one for one in members if one not in counted and one != barred]
            left = ", ".join(able) or "this group, but no other member may approve"
            reason = _why_short(part, counted, checked, barred=barred if barred in members else "")
            yield Refused(
                reason=reason,
                needed=f"{part.approvals} of {part.group} ({', '.join(members)})",
                have=f"{len(counted)} ({', '.join(counted)})" if counted else "0",
                hint=f"{HINTS[reason]}; policy {policy.name} still needs"
                f" {part.approvals - len(counted)} of {left}",
            )


def _why_short(
    part: QuorumPart, counted: tuple[str, ...], checked: CheckedSignatures, *, barred: str
) -> Reason:
    """Return the most specific reason why a group has too few approvals."""
    if checked.defects:
        return checked.defects[0].reason
    if sum(one.person in counted for one in checked.approvals) >= part.approvals:
        return Reason.SAME_PERSON
    if barred in checked.people:
        return Reason.REQUESTER_APPROVED
    return Reason.QUORUM_SHORT
