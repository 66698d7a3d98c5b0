# SPDX-License-Identifier: Apache-2.0
"""The trust: who may approve what, as the canonical text that a node is pinned to.

Rules:

- The constructor of `Trust` verifies that it is sound (`trust_lint`): it refuses a shared key, an
  unreachable quorum or an unknown group.
- Policies are ordered and the first match decides.  Without a match the command is refused.
- A trust does not expire: an expired root during an outage would lock all operators out.

This module does not verify a trust's own signatures or the step from version N to N+1: each node
pins version 1 by its digest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import MappingProxyType

from breakglass.core import bounds, canonical, names
from breakglass.core.canonical import Fields, Json
from breakglass.core.command import Verb, parse_verb
from breakglass.core.sshkey import parse_public_key
from breakglass.core.targets import parse_pattern
from breakglass.core.trust_lint import verify_sound
from breakglass.core.trust_parts import (
    Courier,
    Person,
    Policy,
    QuorumPart,
    TrustedKey,
    members_of,
)
from breakglass.errors import Malformed

NAMESPACE = "breakglass-trust-v1"  # the document's type and its SSHSIG namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Who may approve what.

    Attributes:
        sha256: the digest of the text; commands and nodes pin this document by it.
    """

    domain: str
    version: int
    previous_sha256: str
    created: datetime
    people: tuple[Person, ...]
    policies: tuple[Policy, ...]
    couriers: tuple[Courier, ...]
    sha256: str = field(init=False, compare=False)
    _owners: Mapping[bytes, tuple[Person, TrustedKey]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Raise `Malformed` unless the trust is sound; index its keys."""
        verify_sound(
            version=self.version,
            previous_sha256=self.previous_sha256,
            people=self.people,
            policies=self.policies,
            couriers=self.couriers,
        )
        owners = {one.key.blob: (person, one) for person in self.people for one in person.keys}
        object.__setattr__(self, "_owners", MappingProxyType(owners))
        object.__setattr__(self, "sha256", hashlib.sha256(render_trust(self)).hexdigest())

    def person_of(self, key_blob: bytes) -> tuple[Person, TrustedKey] | None:
        """Return the owner of the key with exactly this blob, and the trusted key, or None."""
        return self._owners.get(key_blob)

    def members(self, group: str) -> tuple[str, ...]:
        """Return the names of the people in `group`, in the document's order."""
        return members_of(self.people, group)

    def policy_for(self, verb: Verb, cluster: str, namespace: str) -> Policy | None:
        """Return the first policy about such a command on that cluster."""
        governing = (one for one in self.policies if one.governs(verb, cluster, namespace))
        return next(governing, None)


def parse_trust(raw: bytes) -> Trust:
    """Return the trust in `raw`.

    Raises:
        Malformed: `raw` is not the canonical text of a sound trust; the code names the broken rule.
    """
    fields = Fields(canonical.parse_object(raw, max_bytes=bounds.MAX_TRUST_BYTES))
    kind = fields.text("type")
    if kind != NAMESPACE:
        raise Malformed(
            f"expected the type {NAMESPACE}, got {names.quoted(kind)}", code="wrong-type"
        )
    people = fields.objects("people", max_items=bounds.MAX_PEOPLE)
    policies = fields.objects("policies", max_items=bounds.MAX_POLICIES)
    couriers = fields.objects("couriers", max_items=bounds.MAX_COURIERS)
    trust = Trust(
        domain=fields.parsed("domain", names.parse_name),
        version=fields.integer("version", low=1, high=bounds.MAX_JSON_INTEGER),
        previous_sha256=fields.parsed("previous_sha256", names.parse_sha256),
        created=fields.parsed("created", names.parse_time),
        people=tuple(_person(one) for one in people),
        policies=tuple(_policy(one) for one in policies),
        couriers=tuple(_courier(one) for one in couriers),
    )
    fields.finish()
    canonical.verify_canonical(raw, _document(trust))
    return trust


def render_trust(trust: Trust) -> bytes:
    """Return the canonical text of a trust; a pin is the digest of these bytes."""
    return canonical.render(_document(trust))


def _person(fields: Fields) -> Person:
    keys = fields.objects("keys", max_items=bounds.MAX_KEYS_PER_PERSON)
    person = Person(
        name=fields.parsed("name", names.parse_name),
        groups=fields.texts("groups", names.parse_name, max_items=bounds.MAX_GROUPS),
        keys=tuple(_key(one) for one in keys),
    )
    fields.finish()
    return person


def _key(fields: Fields) -> TrustedKey:
    key = TrustedKey(
        key=fields.parsed("key", parse_public_key, max_chars=bounds.MAX_PUBLIC_KEY_BYTES),
        label=fields.text("label"),
        verify_required=fields.flag("verify_required"),
    )
    fields.finish()
    return key


def _policy(fields: Fields) -> Policy:
    parts = fields.objects("quorum", max_items=bounds.MAX_QUORUM_GROUPS)
    policy = Policy(
        name=fields.parsed("name", names.parse_name),
        verbs=fields.texts("verbs", parse_verb, max_items=len(Verb)),
        clusters=fields.texts("clusters", parse_pattern, max_items=bounds.MAX_CLUSTERS),
        namespaces=fields.texts("namespaces", parse_pattern, max_items=bounds.MAX_PATTERNS),
        quorum=tuple(_quorum_part(one) for one in parts),
        requester_may_approve=fields.flag("requester_may_approve"),
        max_hold_s=fields.parsed(
            "max_hold", partial(names.parse_duration, max_s=bounds.MAX_HOLD_S)
        ),
        max_nodes=fields.integer("max_nodes", low=1, high=bounds.MAX_NODES),
    )
    fields.finish()
    return policy


def _quorum_part(fields: Fields) -> QuorumPart:
    part = QuorumPart(
        group=fields.parsed("group", names.parse_name),
        approvals=fields.integer("approvals", low=1, high=bounds.MAX_SIGNATURES),
    )
    fields.finish()
    return part


def _courier(fields: Fields) -> Courier:
    courier = Courier(
        name=fields.parsed("name", names.parse_name),
        spki_sha256=fields.parsed("spki_sha256", names.parse_sha256),
    )
    fields.finish()
    return courier


def _document(trust: Trust) -> dict[str, Json]:
    return {
        "type": NAMESPACE,
        "domain": trust.domain,
        "version": trust.version,
        "previous_sha256": trust.previous_sha256,
        "created": names.render_time(trust.created),
        "people": [_person_document(one) for one in trust.people],
        "policies": [_policy_document(one) for one in trust.policies],
        "couriers": [{"name": one.name, "spki_sha256": one.spki_sha256} for one in trust.couriers],
    }


def _person_document(person: Person) -> Json:
    return {
        "name": person.name,
        "groups": list(person.groups),
        "keys": [
            {"key": one.key.line, "label": one.label, "verify_required": one.verify_required}
            for one in person.keys
        ],
    }


def _policy_document(policy: Policy) -> Json:
    return {
        "name": policy.name,
        "verbs": [verb.value for verb in policy.verbs],
        "clusters": list(policy.clusters),
        "namespaces": list(policy.namespaces),
        "quorum": [{"group": one.group, "approvals": one.approvals} for one in policy.quorum],
        "requester_may_approve": policy.requester_may_approve,
        "max_hold": names.render_duration(policy.max_hold_s),
        "max_nodes": policy.max_nodes,
    }
