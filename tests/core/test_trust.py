# SPDX-License-Identifier: Apache-2.0
"""The trust: parsing it, finding keys and policies, and the rules of soundness (P2)."""

import dataclasses
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import bounds, canonical
from breakglass.core.command import Verb
from breakglass.core.trust import parse_trust, render_trust
from breakglass.errors import Malformed
from tests.support import properties, ssh_keys
from tests.support.organisation import Organisation, edited, policy
from tests.support.properties import property_test


@pytest.fixture(scope="module")
def org() -> Organisation:
    """Return an organisation of three people with a quorum of two."""
    return Organisation("ana bo luc", quorum=2)


def code_of(raw: bytes) -> str:
    """Return the code of the error for a text."""
    with pytest.raises(Malformed) as refusal:
        parse_trust(raw)
    return refusal.value.stable_code


def founding_code(people: str = "ana bo luc", **world: Any) -> str:  # noqa: ANN401 - any argument
    """Return the code of the error for founding an organisation."""
    with pytest.raises(Malformed) as refusal:
        Organisation(people, **world)
    return refusal.value.stable_code


def test_a_trust_is_read_back(org: Organisation) -> None:
    """Parsing a trust's text returns the trust; its digest is that of the text."""
    trust = parse_trust(org.trust_text)
    assert render_trust(trust) == org.trust_text
    assert trust == org.trust
    assert trust.sha256 == hashlib.sha256(org.trust_text).hexdigest()


@property_test
@given(st.data())
def test_p3_only_one_text_is_read_as_a_trust(data: st.DataObject) -> None:
    """A changed text is refused, or it is the canonical text of another trust."""
    raw = data.draw(properties.broken(Organisation("ana bo").trust_text))
    try:
        trust = parse_trust(raw)
    except Malformed:
        return
    assert render_trust(trust) == raw


@property_test
@given(
    st.lists(properties.name, min_size=2, max_size=5, unique=True),
    st.integers(1, bounds.MAX_NODES),
    st.sampled_from(["no", "yes"]),
)
def test_every_trust_is_read_back(people: list[str], max_nodes: int, requester_may: str) -> None:
    """Parsing a rendered trust returns it."""
    rule = policy(max_nodes=max_nodes, requester_may_approve=requester_may == "yes")
    trust = Organisation(" ".join(people), policies=(rule,)).trust
    assert parse_trust(render_trust(trust)) == trust


def test_a_key_leads_to_its_person(org: Organisation) -> None:
    """`person_of` finds each trusted key by its exact blob, and no other key."""
    for key in org.keys["bo"]:
        found = org.trust.person_of(key.blob)
        assert found is not None
        assert (found[0].name, found[1].key.blob) == ("bo", key.blob)
    assert org.trust.person_of(org.stranger.blob) is None


def test_a_courier_is_known_by_its_public_key() -> None:
    """A courier has a name and the digest of its public key."""
    digest = "ab" * 32
    (courier,) = Organisation(couriers={"bastion-1": digest}).trust.couriers
    assert (courier.name, courier.spki_sha256) == ("bastion-1", digest)


def test_the_first_policy_that_governs_decides() -> None:
    """The first policy that governs is returned, or None."""
    strict = policy("strict", clusters="prod-*", namespaces="kube-system", quorum={"people": 3})
    usual = policy("usual", verbs="stop", clusters="prod-*")
    trust = Organisation(policies=(strict, usual)).trust
    governing = [
        trust.policy_for(verb, cluster, namespace)
        for verb, cluster, namespace in (
            (Verb.STOP, "prod-a", "kube-system"),
            (Verb.STOP, "prod-a", "monitoring"),
            (Verb.EVICT, "prod-a", "monitoring"),
            (Verb.STOP, "test", "monitoring"),
        )
    ]
    assert [one.name if one else None for one in governing] == ["strict", "usual", None, None]


def test_p2_one_key_is_never_two_people() -> None:
    """A key that is listed for two people, or twice for one, is refused."""
    key = ssh_keys.ed25519("shared")
    assert founding_code(keys={"ana": (key,), "bo": (key,)}) == "trust-shared-key"
    assert founding_code(keys={"ana": (key, key)}) == "trust-shared-key"


def test_p2_one_key_in_a_security_key_is_the_same_key() -> None:
    """The raw key is compared, whatever its type or application."""
    plain, wrapped = ssh_keys.ed25519("shared"), ssh_keys.security_key("shared")
    other = ssh_keys.security_key("shared", application="ssh:other")
    assert founding_code(keys={"ana": (plain,), "bo": (wrapped,)}) == "trust-shared-key"
    assert founding_code(keys={"ana": (wrapped,), "bo": (other,)}) == "trust-shared-key"


@pytest.mark.parametrize("verb", ["stop", "evict", "extend", "release extend"])
def test_p2_nobody_stops_pods_alone(verb: str) -> None:
    """A policy that stops pods or extends holds needs at least two approvals."""
    alone = policy(verbs=verb, quorum={"people": 1})
    assert founding_code(policies=(alone,)) == "trust-small-quorum"


def test_one_approval_may_release() -> None:
    """A policy that only releases may need one approval."""
    release = policy(verbs="release", quorum={"people": 1})
    assert Organisation(policies=(release,)).trust.policies[0].quorum[0].approvals == 1


def test_a_quorum_of_two_groups() -> None:
    """One approval from each of two groups counts as two."""
    both = policy(quorum={"sre": 1, "owners": 1})
    org = Organisation(groups={"sre": "ana bo", "owners": "luc"}, policies=(both,))
    assert org.trust.members("sre") == ("ana", "bo")


def test_p2_a_person_fills_one_place_in_a_quorum() -> None:
    """The groups of one policy must not share a person."""
    both = policy(quorum={"sre": 1, "owners": 1})
    groups = {"sre": "ana bo", "owners": "bo luc"}
    assert founding_code(groups=groups, policies=(both,)) == "trust-overlapping-groups"


def test_a_quorum_must_be_reachable() -> None:
    """A quorum with more approvals than people, or of an empty group, is refused."""
    assert founding_code("ana bo", quorum=3) == "trust-unreachable-quorum"
    nobody = policy(quorum={"sre": 2})
    assert founding_code(policies=(nobody,)) == "trust-unknown-group"


def test_verification_is_only_asked_of_security_keys() -> None:
    """`verify_required` on a plain key is refused: the key could never approve."""
    key = ssh_keys.security_key("ana's token")
    assert founding_code(verify_required="ana") == "trust-verify-required"
    org = Organisation(keys={"ana": (key,)}, verify_required="ana")
    assert org.trust.people[0].keys[0].verify_required


def test_names_are_given_once() -> None:
    """Policies and couriers have unique names, and couriers unique keys."""
    twice = (policy("one"), policy("one"))
    assert founding_code(policies=twice) == "trust-duplicate-name"
    same = {"bastion-1": "ab" * 32, "bastion-2": "ab" * 32}
    assert founding_code(couriers=same) == "trust-duplicate-name"


def test_people_are_named_once(org: Organisation) -> None:
    """Two people with the same name are refused."""
    assert code_of(edited(org.trust_text, "people.1.name", "ana")) == "trust-duplicate-name"


def test_groups_are_bounded() -> None:
    """Too many groups are refused."""
    many = {f"group-{place}": "ana" if place % 2 else "bo" for place in range(32)}
    assert founding_code(groups=many) == "malformed"


def test_version_1_and_no_other_has_no_predecessor(org: Organisation) -> None:
    """Only version 1 has zeros as `previous_sha256`."""
    assert code_of(edited(org.trust_text, "version", 2)) == "trust-first-version"
    digest = edited(org.trust_text, "previous_sha256", "ab" * 32)
    assert code_of(digest) == "trust-first-version"
    assert parse_trust(edited(digest, "version", 2)).version == 2


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        ("type", "breakglass-command-v1", "wrong-type"),
        ("domain", "Example", "malformed"),
        ("version", 0, "malformed"),
        ("created", "today", "malformed"),
        ("people", [], "trust-empty-list"),
        ("people.0.groups", [], "trust-empty-list"),
        ("people.0.groups", ["people", "people"], "malformed"),
        ("people.0.keys", [], "trust-empty-list"),
        ("people.0.keys.0.key", "ssh-ed25519 AAAA", "malformed"),
        ("people.0.keys.0.label", 1, "malformed"),
        ("people.0.keys.0.verify_required", 1, "malformed"),
        ("people.0.keys.0.expires", "never", "unknown-key"),
        ("people.0.admin", True, "unknown-key"),
        ("policies", [], "trust-empty-list"),
        ("policies.0.verbs", [], "trust-empty-list"),
        ("policies.0.verbs", ["explode"], "malformed"),
        ("policies.0.clusters", [], "trust-empty-list"),
        ("policies.0.namespaces", [], "trust-empty-list"),
        ("policies.0.namespaces", ["**"], "malformed"),
        ("policies.0.quorum", [], "trust-empty-list"),
        ("policies.0.quorum", [{"group": "people", "approvals": 0}], "malformed"),
        ("policies.0.quorum", [{"group": "people", "approvals": 1}] * 2, "trust-duplicate-name"),
        ("policies.0.quorum.0.any", True, "unknown-key"),
        ("policies.0.requester_may_approve", "no", "malformed"),
        ("policies.0.max_hold", "1d", "malformed"),
        ("policies.0.max_nodes", 0, "malformed"),
        ("policies.0.else", "allow", "unknown-key"),
        ("couriers", [{"name": "x", "spki_sha256": "00"}], "malformed"),
        ("couriers", [{"name": "x", "spki_sha256": "ab" * 32, "root": True}], "unknown-key"),
        ("expires", "2027-01-01T00:00:00Z", "unknown-key"),
    ],
)
def test_a_trust_that_is_none(org: Organisation, place: str, value: object, code: str) -> None:
    """A violation of each rule of the format is refused with that rule's code."""
    assert code_of(edited(org.trust_text, place, value)) == code


def test_p3_another_order_of_keys_is_another_text(org: Organisation) -> None:
    """A trust with its keys in another order is refused."""
    document = canonical.parse_object(org.trust_text, max_bytes=bounds.MAX_TRUST_BYTES)
    assert code_of(canonical.render(dict(reversed(document.items())))) == "not-canonical"


def test_making_a_trust_proves_it_sound(org: Organisation) -> None:
    """The constructor of Trust checks the same rules."""
    with pytest.raises(Malformed, match="people"):
        dataclasses.replace(org.trust, people=())
