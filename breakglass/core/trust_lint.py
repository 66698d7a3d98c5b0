# SPDX-License-Identifier: Apache-2.0
"""Verify that a well-formed trust is sound; each rule has its own error code.

A trust is signed long before an emergency, so mistakes that would only show in one are refused
here: one key of two people, a quorum that a group is too small for, a person in two groups of one
quorum, a policy that lets one person stop pods or extend a hold alone.  `trust` parses the text.
"""

from collections import Counter
from collections.abc import Iterable

from breakglass.core import bounds
from breakglass.core.command import Verb
from breakglass.core.names import quoted
from breakglass.core.trust_parts import (
    NO_PREVIOUS,
    Courier,
    Person,
    Policy,
    QuorumPart,
    TrustedKey,
    members_of,
)
from breakglass.errors import Malformed

_KEEPING_DOWN = frozenset({Verb.STOP, Verb.EVICT, Verb.EXTEND})


def verify_sound(
    *,
    version: int,
    previous_sha256: str,
    people: tuple[Person, ...],
    policies: tuple[Policy, ...],
    couriers: tuple[Courier, ...],
) -> None:
    """Raise `Malformed` unless a trust of these parts is sound."""
    if (version == 1) != (previous_sha256 == NO_PREVIOUS):
        raise Malformed(
            "expected zeros as previous_sha256 in version 1 and in no other, got version"
            f" {version} with {quoted(previous_sha256)}",
            code="trust-first-version",
        )
    _verify_people(people)
    _verify_once("policy", (policy.name for policy in policies))
    _verify_once("courier", (courier.name for courier in couriers))
    _verify_once("courier's spki_sha256", (courier.spki_sha256 for courier in couriers))
    _verify_filled("policies", policies)
    for policy in policies:
        _verify_policy(people, policy)


def _verify_people(people: tuple[Person, ...]) -> None:
    _verify_filled("people", people)
    _verify_once("person", (person.name for person in people))
    _verify_groups(people)
    owner: dict[bytes, str] = {}
    for person in people:
        _verify_filled(f"keys of {person.name}", person.keys)
        _verify_filled(f"groups of {person.name}", person.groups)
        for trusted in person.keys:
            _verify_key(person, trusted, owner)


def _verify_key(person: Person, trusted: TrustedKey, owner: dict[bytes, str]) -> None:
    # Compare the raw key, without type and application: the same key listed for two people would
    # count one person twice (python-tuf CVE-2020-6174, go-tuf GHSA-3633-5h82-39pq).
    material = trusted.key.material
    if material in owner:
        raise Malformed(
            f"expected each key once, got one of {owner[material]} again for {person.name}",
            code="trust-shared-key",
        )
    owner[material] = person.name
    if trusted.verify_required and not trusted.key.is_sk:
        raise Malformed(
            f"expected verify_required on security keys only, got it on {trusted.key.kind}"
            f" of {person.name}",
            code="trust-verify-required",
        )


def _verify_groups(people: tuple[Person, ...]) -> None:
    groups = {group for person in people for group in person.groups}
    if len(groups) > bounds.MAX_GROUPS:
        raise Malformed(f"expected at most {bounds.MAX_GROUPS} groups, got {len(groups)}")


def _verify_policy(people: tuple[Person, ...], policy: Policy) -> None:
    _verify_filled(f"verbs of policy {policy.name}", policy.verbs)
    _verify_filled(f"clusters of policy {policy.name}", policy.clusters)
    _verify_filled(f"namespaces of policy {policy.name}", policy.namespaces)
    _verify_filled(f"quorum of policy {policy.name}", policy.quorum)
    _verify_once("group in a quorum", (part.group for part in policy.quorum))
    place: dict[str, str] = {}
    for part in policy.quorum:
        members = members_of(people, part.group)
        _verify_reachable(policy, part, len(members))
        for member in members:
            if member in place:
                raise Malformed(
                    f"expected each person in one group of policy {policy.name}, got {member} in"
                    f" {place[member]} and {part.group}",
                    code="trust-overlapping-groups",
                )
            place[member] = part.group
    approvals = sum(part.approvals for part in policy.quorum)
    if _KEEPING_DOWN & set(policy.verbs) and approvals < bounds.MIN_APPROVALS_TO_STOP:
        raise Malformed(
            f"expected at least {bounds.MIN_APPROVALS_TO_STOP} approvals in policy {policy.name},"
            f" which keeps pods down, got {approvals}",
            code="trust-small-quorum",
        )


def _verify_reachable(policy: Policy, part: QuorumPart, members: int) -> None:
    if not members:
        raise Malformed(
            f"expected a group that has people in policy {policy.name}, got {quoted(part.group)}",
            code="trust-unknown-group",
        )
    if part.approvals > members:
        raise Malformed(
            f"expected at most {members} approvals of {part.group} in policy {policy.name},"
            f" got {part.approvals}",
            code="trust-unreachable-quorum",
        )


def _verify_filled(what: str, items: tuple[object, ...]) -> None:
    if not items:
        raise Malformed(f"expected at least one in the {what}, got none", code="trust-empty-list")


def _verify_once(what: str, items: Iterable[str]) -> None:
    repeated = next((item for item, count in Counter(items).items() if count > 1), None)
    if repeated is not None:
        raise Malformed(
            f"expected each {what} once, got {quoted(repeated)} twice", code="trust-duplicate-name"
        )
