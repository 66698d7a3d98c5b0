# SPDX-License-Identifier: Apache-2.0
"""`decide` approves a text only if enough distinct people signed exactly it (P2, P3, P8)."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import breakglass.core.decide as decide_module
from breakglass.core import bounds
from breakglass.core.command import parse_command
from breakglass.core.decide import Approved, Refused, Verdict, count_people, objections
from breakglass.core.reasons import Reason
from tests.support import ssh_keys
from tests.support.organisation import Organisation, edited, policy
from tests.support.properties import property_test


@pytest.fixture
def org() -> Organisation:
    """Return an organisation of three people with a quorum of two."""
    return Organisation("ana bo luc", quorum=2)


def approved(verdict: Verdict) -> Approved:
    """Return the verdict, which must be Approved."""
    assert isinstance(verdict, Approved), verdict
    return verdict


def refused(verdict: Verdict) -> Refused:
    """Return the verdict, which must be Refused."""
    assert isinstance(verdict, Refused), verdict
    return verdict


def reason(verdict: Verdict) -> Reason:
    """Return the reason of the verdict, which must be Refused."""
    return refused(verdict).reason


# What approves


def test_enough_people_approve(org: Organisation) -> None:
    """Two of three approve; the verdict has the people, the policy, the time and the text."""
    text = org.command()
    verdict = approved(org.decide(text, "ana", "luc"))
    assert verdict.text == text
    assert verdict.command == parse_command(text)
    assert [one.person for one in verdict.approvals] == ["ana", "luc"]
    assert (verdict.policies, verdict.decided_at) == (("everything",), org.now)
    assert re.fullmatch("[0-9a-f]{64}", verdict.sha256)


def test_any_key_of_a_person_approves(org: Organisation) -> None:
    """Each key of a person counts, and the approval names the key that signed."""
    text = org.command()
    verdict = approved(org.decide(text, "ana", org.approve(text, "bo", key=1)))
    assert [one.key_kind for one in verdict.approvals] == ["ssh-ed25519", "ecdsa-sha2-nistp256"]
    assert all(one.fingerprint.startswith("SHA256:") for one in verdict.approvals)
    assert all(one.flags is None and one.counter is None for one in verdict.approvals)


def test_either_hash_approves(org: Organisation) -> None:
    """Signatures over SHA-256 and over SHA-512 both count."""
    text = org.command()
    verdict = approved(org.decide(text, org.approve(text, "ana", hash_name="sha256"), "bo"))
    assert len(verdict.approvals) == 2


def test_a_security_key_tells_what_it_saw() -> None:
    """The approval of a security key carries its flags and counter."""
    org = Organisation(keys={"ana": (ssh_keys.security_key("token", flags=5),)})
    first, _ = approved(org.decide(org.command(), "ana", "bo")).approvals
    assert (first.key_kind, first.flags, first.counter) == ("sk-ssh-ed25519@openssh.com", 5, 7)


def test_one_from_each_group_approves() -> None:
    """A quorum of two groups needs people of both."""
    both = policy(quorum={"sre": 1, "owners": 1})
    org = Organisation(groups={"sre": "ana bo", "owners": "luc"}, policies=(both,))
    text = org.command()
    assert len(approved(org.decide(text, "bo", "luc")).approvals) == 2
    verdict = refused(org.decide(text, "ana", "bo"))
    assert (verdict.reason, verdict.needed) == (Reason.QUORUM_SHORT, "1 of owners (luc)")


def test_a_defective_signature_beside_enough_good_ones_changes_nothing(org: Organisation) -> None:
    """Anyone who carries the file can add a signature; it must not block a command."""
    text = org.command()
    verdict = approved(org.decide(text, b"junk", "mallory", "ana", "bo"))
    assert [one.person for one in verdict.approvals] == ["ana", "bo"]


def test_a_person_is_listed_once(org: Organisation) -> None:
    """All approvals are kept, one for each person, in the file's order."""
    text = org.command()
    again = org.approve(text, "bo", key=1)
    verdict = approved(org.decide(text, "bo", again, "luc", "ana"))
    assert [one.person for one in verdict.approvals] == ["bo", "luc", "ana"]
    assert verdict.approvals[0].key_kind == "ssh-ed25519"


# (1) bounds


def test_an_unsigned_command_is_refused(org: Organisation) -> None:
    """A command without signatures is refused as unsigned."""
    assert reason(org.decide(org.command())) is Reason.UNSIGNED


def test_p8_text_and_signatures_are_bounded(org: Organisation) -> None:
    """Too long a text and too many signatures are refused before any other step."""
    text = org.command()
    assert reason(org.decide(b"x" * (bounds.MAX_COMMAND_BYTES + 1), b"junk")) is Reason.TOO_LARGE
    many = (b"junk",) * (bounds.MAX_SIGNATURES + 1)
    assert reason(org.decide(text, *many)) is Reason.TOO_LARGE
    approved(org.decide(text, *many[3:], "ana", "bo"))


@pytest.mark.parametrize("skew_s", [-1, bounds.MAX_SKEW_S + 1])
def test_p8_the_skew_is_bounded(org: Organisation, skew_s: int) -> None:
    """A skew beyond its bound raises ValueError."""
    with pytest.raises(ValueError, match="skew"):
        org.decide(org.command(), "ana", "bo", skew_s=skew_s)


# (2) and (3) signatures


def test_p2_a_stranger_has_no_authority(org: Organisation) -> None:
    """A valid signature by a key outside the trust does not count."""
    verdict = refused(org.decide(org.command(), "mallory"))
    assert verdict.reason is Reason.SIGNATURE_STRANGER
    assert verdict.have.startswith("SHA256:")
    assert reason(org.decide(org.command(), "ana", "mallory")) is Reason.SIGNATURE_STRANGER


def test_p2_a_signature_for_something_else_is_none(org: Organisation) -> None:
    """A signature in the namespace of a trust or of git approves no command."""
    text = org.command()
    for namespace in ("breakglass-trust-v1", "git"):
        other = org.approve(text, "bo", namespace=namespace)
        assert reason(org.decide(text, "ana", other)) is Reason.SIGNATURE_NAMESPACE


def test_p3_an_edited_byte_is_another_text(org: Organisation) -> None:
    """Approvals of one text do not approve a text with one byte changed."""
    text = org.command()
    approvals = org.approve(text, "ana"), org.approve(text, "bo")
    verdict = refused(org.decide(text.replace(b"telemetry", b"telemetrz"), *approvals))
    assert verdict.reason is Reason.SIGNATURE_INVALID
    assert verdict.have.endswith("in the approval of ana")


def test_a_signature_that_is_none(org: Organisation) -> None:
    """Bytes that are not a signature are refused as malformed."""
    assert reason(org.decide(org.command(), b"junk")) is Reason.SIGNATURE_MALFORMED


def test_p2_a_security_key_must_be_touched() -> None:
    """A security key's signature without a touch does not count."""
    org = Organisation(keys={"ana": (ssh_keys.security_key("token", flags=0),)})
    assert reason(org.decide(org.command(), "ana", "bo")) is Reason.SIGNATURE_PRESENCE


def test_p2_a_security_key_must_know_its_owner_where_trust_says_so() -> None:
    """Where the trust requires a PIN or fingerprint, a touch is not enough."""
    key = ssh_keys.security_key("token", flags=1)
    org = Organisation(keys={"ana": (key,)}, verify_required="ana")
    assert reason(org.decide(org.command(), "ana", "bo")) is Reason.SIGNATURE_VERIFY_REQUIRED


def test_p3_text_that_nobody_trusted_signed_is_not_read(org: Organisation) -> None:
    """Text without a valid signature is never parsed: the refusal is about the signature."""
    assert reason(org.decide(b"not a command", "mallory")) is Reason.SIGNATURE_STRANGER


# (4) the text


def test_p3_what_was_signed_must_be_a_command(org: Organisation) -> None:
    """A text that breaks the format is refused even with all approvals."""
    people = ("ana", "bo", "luc")
    text = org.command()
    assert reason(org.decide(b"not a command", *people)) is Reason.MALFORMED
    assert reason(org.decide(org.trust_text, *people)) is Reason.WRONG_TYPE
    assert reason(org.decide(text + b"\n", *people)) is Reason.NOT_CANONICAL
    assert reason(org.decide(edited(text, "force", 1), *people)) is Reason.UNKNOWN_KEY
    assert reason(org.decide(edited(text, "mode", "drill"), *people)) is Reason.SUMMARY_MISMATCH
    twice = text.replace(b'  "mode"', b'  "domain": "example",\n  "mode"')
    assert reason(org.decide(twice, *people)) is Reason.DUPLICATE_KEY


def test_p3_a_verb_has_its_own_fields_only(org: Organisation) -> None:
    """A stop whose verb alone was changed before signing is refused."""
    for verb in ("release", "extend"):
        text = edited(org.command(), "action.verb", verb)
        assert reason(org.decide(text, "ana", "bo")) is Reason.MISSING_KEY
    text = edited(org.command(), "action.verb", "explode")
    assert reason(org.decide(text, "ana", "bo")) is Reason.MALFORMED


# (5) domain and trust


def test_a_command_is_for_one_domain(org: Organisation) -> None:
    """A command for another domain is refused even if the same people signed it."""
    verdict = refused(org.decide(org.command(domain="staging"), "ana", "bo"))
    assert (verdict.reason, verdict.have) == (Reason.WRONG_DOMAIN, "one for staging")


def test_p2_a_command_is_decided_by_the_trust_it_names(org: Organisation) -> None:
    """A command that names another trust document is refused."""
    for other in ({"trust_version": 2}, {"trust_sha256": "ab" * 32}):
        assert reason(org.decide(org.command(**other), "ana", "bo")) is Reason.WRONG_TRUST


# (6) the window


@pytest.mark.parametrize(
    ("at_s", "skew_s", "expected"),
    [
        (-301, 300, Reason.NOT_YET_VALID),
        (-300, 300, None),
        (-1, 0, Reason.NOT_YET_VALID),
        (0, 0, None),
        (3600, 0, None),
        (3601, 0, Reason.EXPIRED),
        (3900, 300, None),
        (3901, 300, Reason.EXPIRED),
    ],
)
def test_a_command_has_a_window(
    org: Organisation, at_s: int, skew_s: int, expected: Reason | None
) -> None:
    """A command is approved inside its window and the tolerated skew around it."""
    verdict = org.decide(org.command(), "ana", "bo", at_s=at_s, skew_s=skew_s)
    assert (verdict.reason if isinstance(verdict, Refused) else None) is expected


def test_both_clocks_are_told(org: Organisation) -> None:
    """A refusal because of the time contains the window and the clock reading."""
    verdict = refused(org.decide(org.command(), "ana", "bo", at_s=7200))
    assert verdict.needed == "a clock between 2026-11-21T04:00:00Z and 2026-11-21T05:00:00Z"
    assert verdict.have == "2026-11-21T06:00:00Z here"


# (7) the policies, and (8) their caps


@pytest.mark.parametrize("verb", ["stop", "evict", "release", "extend"])
def test_every_verb_is_approved_by_its_own_policy(verb: str) -> None:
    """Each verb has its own policy: people who may stop may not be able to release."""
    others = " ".join({"stop", "evict", "release", "extend"} - {verb})
    mine, theirs = policy("mine", verbs=verb), policy("theirs", verbs=others, quorum={"people": 3})
    org = Organisation(policies=(theirs, mine))
    assert approved(org.decide(org.command(verb=verb), "ana", "bo")).policies == ("mine",)
    org = Organisation(policies=(theirs,))
    assert reason(org.decide(org.command(verb=verb), "ana", "bo", "luc")) is Reason.NO_POLICY


@pytest.mark.parametrize("verb", ["stop", "evict", "extend"])
def test_p8_a_hold_is_as_long_as_the_policy_allows(verb: str) -> None:
    """A hold up to the policy's maximum is approved; one second more is refused with both."""
    org = Organisation(policies=(policy(max_hold="1h"),))
    approved(org.decide(org.command(verb=verb, hold_s=3600), "ana", "bo"))
    verdict = refused(org.decide(org.command(verb=verb, hold_s=3601), "ana", "bo", "luc"))
    assert verdict.reason is Reason.HOLD_TOO_LONG
    assert (verdict.needed, verdict.have) == ("a hold of at most 1h", "3601s")


def test_p8_a_policy_bounds_what_it_allows() -> None:
    """More nodes or a longer hold than the policy allows is refused with any approvals."""
    org = Organisation(policies=(policy(max_nodes=3, max_hold="1h"),))
    approved(org.decide(org.command(max_nodes=3), "ana", "bo", "luc"))
    text = org.command(max_nodes=4, hold_s=7200)
    tally = count_people(text, (org.approve(text, "ana"), org.approve(text, "bo")), org.trust)
    against = objections(parse_command(text), tally, org.trust, org.now, skew_s=0)
    assert [one.reason for one in against] == [
        Reason.HOLD_TOO_LONG,
        Reason.TOO_MANY_NODES,
    ]


def test_everything_against_a_command_is_told(org: Organisation) -> None:
    """`objections` yields every reason, in the order of the steps."""
    text = org.command(domain="staging", trust_version=2, hold_s=90_000, max_nodes=2000)
    tally = count_people(text, (org.approve(text, "ana"),), org.trust)
    late = org.now + timedelta(days=1)
    against = objections(parse_command(text), tally, org.trust, late, skew_s=0)
    assert [one.reason for one in against] == [
        Reason.WRONG_DOMAIN,
        Reason.WRONG_TRUST,
        Reason.EXPIRED,
        Reason.HOLD_TOO_LONG,
        Reason.TOO_MANY_NODES,
        Reason.QUORUM_SHORT,
    ]


def test_where_no_policy_governs_nobody_may(org: Organisation) -> None:
    """A command in a namespace or cluster without a policy is refused."""
    one = policy(clusters="prod-*", namespaces="monitoring", verbs="stop")
    org = Organisation(policies=(one,))
    for outside in ({"clusters": "test"}, {"workload": "kube-system/cni"}):
        assert reason(org.decide(org.command(**outside), "ana", "bo", "luc")) is Reason.NO_POLICY


def test_p8_one_cluster_without_a_policy_refuses_all() -> None:
    """One named cluster without a policy refuses the whole command."""
    org = Organisation(policies=(policy(clusters="prod-*"),))
    verdict = refused(org.decide(org.command(clusters="prod-a test"), "ana", "bo"))
    assert verdict.reason is Reason.NO_POLICY
    assert verdict.needed.endswith("on cluster test")


def test_p2_a_lax_cluster_beside_a_strict_one_weakens_nothing() -> None:
    """The policy of each named cluster must be satisfied, in any order of the names."""
    strict = policy("strict", clusters="prod-*", quorum={"people": 3})
    lax = policy("lax", clusters="test")
    org = Organisation(policies=(strict, lax))
    assert approved(org.decide(org.command(clusters="test"), "ana", "bo")).policies == ("lax",)
    for clusters in ("test prod-a", "prod-a test"):
        text = org.command(clusters=clusters)
        assert reason(org.decide(text, "ana", "bo")) is Reason.QUORUM_SHORT
        verdict = approved(org.decide(text, "ana", "bo", "luc"))
        assert set(verdict.policies) == {"strict", "lax"}


# (9) the quorum


def test_too_few_people(org: Organisation) -> None:
    """The refusal says how many of which people are needed, who approved, and who still can."""
    verdict = refused(org.decide(org.command(), "ana"))
    assert verdict.reason is Reason.QUORUM_SHORT
    assert (verdict.needed, verdict.have) == ("2 of people (ana, bo, luc)", "1 (ana)")
    assert verdict.hint.endswith("policy everything still needs 1 of bo, luc")


def test_p2_people_are_counted_not_keys(org: Organisation) -> None:
    """One person with two keys, or with one key twice, is one person."""
    text = org.command()
    assert reason(org.decide(text, "ana", org.approve(text, "ana", key=1))) is Reason.SAME_PERSON
    assert reason(org.decide(text, "ana", "ana")) is Reason.SAME_PERSON


def test_p2_the_requester_does_not_approve(org: Organisation) -> None:
    """The requester's own approval does not count."""
    text = org.command(requester="ana")
    verdict = refused(org.decide(text, "ana", "bo"))
    assert (verdict.reason, verdict.have) == (Reason.REQUESTER_APPROVED, "1 (bo)")
    assert verdict.hint.endswith("still needs 1 of luc")
    approved(org.decide(text, "ana", "bo", "luc"))


def test_the_requester_approves_where_the_policy_says_so() -> None:
    """A policy may allow the requester to approve."""
    org = Organisation(policies=(policy(requester_may_approve=True),))
    approved(org.decide(org.command(requester="ana"), "ana", "bo"))


def test_the_requester_of_another_group_is_not_why() -> None:
    """A requester outside the group is not given as the reason."""
    one = policy(quorum={"owners": 2})
    org = Organisation(groups={"owners": "bo luc"}, policies=(one,))
    verdict = refused(org.decide(org.command(requester="ana"), "ana", "bo"))
    assert verdict.reason is Reason.QUORUM_SHORT


def test_nobody_is_left_to_approve() -> None:
    """If the requester may not approve and the group is too small, the refusal says so."""
    org = Organisation("ana bo")
    verdict = refused(org.decide(org.command(requester="ana"), "ana"))
    assert (verdict.reason, verdict.have) == (Reason.REQUESTER_APPROVED, "0")
    verdict = refused(org.decide(org.command(requester="ana"), "bo"))
    assert verdict.hint.endswith("still needs 1 of this group, but no other member may approve")


def test_a_defect_is_the_most_telling_reason(org: Organisation) -> None:
    """The defect of a signature is the reason where the quorum would be met with it."""
    text = org.command()
    assert reason(org.decide(text, "ana", b"junk")) is Reason.SIGNATURE_MALFORMED
    stale = org.approve(text + b" ", "bo")
    assert reason(org.decide(text, "ana", stale, "ana")) is Reason.SIGNATURE_INVALID


@property_test
@given(
    st.lists(
        st.tuples(st.sampled_from(["ana", "bo", "luc", "mallory"]), st.integers(0, 1)), max_size=6
    ),
    st.sampled_from(["ana", "olga"]),
)
def test_p2_approved_when_and_only_when_enough_distinct_people_signed(
    signatures: list[tuple[str, int]], requester: str
) -> None:
    """For every set of signatures the verdict agrees with a count of the people."""
    org = Organisation("ana bo luc", quorum=2)
    text = org.command(requester=requester)
    verdict = org.decide(text, *[org.approve(text, who, key=key) for who, key in signatures])
    people = {who for who, _ in signatures} - {"mallory", requester}
    assert isinstance(verdict, Approved) == (len(people) >= 2)


# The verdict itself


def test_p2_only_decide_makes_an_approved(org: Organisation) -> None:
    """An Approved cannot be constructed, or copied with another command."""
    verdict = org.approved()
    fields = {one.name: getattr(verdict, one.name) for one in dataclasses.fields(verdict)}
    other = org.draft(workload="kube-system/cni")
    with pytest.raises(TypeError, match="only decide"):
        Approved(**fields, proof=object())
    with pytest.raises((ValueError, TypeError), match="proof"):  # TypeError from Python 3.13 on
        dataclasses.replace(verdict, command=other)  # type: ignore[call-arg]


def test_a_verdict_has_no_truth_value(org: Organisation) -> None:
    """`bool(verdict)` raises TypeError."""
    with pytest.raises(TypeError, match="truth"):
        bool(org.approved())


def test_a_verdict_depends_on_its_arguments_only(org: Organisation) -> None:
    """The same arguments give the same verdict; another clock gives another `decided_at`."""
    text = org.command()
    assert org.decide(text, "ana", "bo") == org.decide(text, "ana", "bo")
    later = approved(org.decide(text, "ana", "bo", at_s=60))
    assert later.decided_at == datetime(2026, 11, 21, 4, 1, tzinfo=UTC)


def test_the_steps_of_the_docstring_stand_in_the_code() -> None:
    """Every numbered step of the module's docstring has its number in the code."""
    docstring = decide_module.__doc__ or ""
    source = Path(decide_module.__file__).read_text(encoding="utf-8")
    steps = {int(one) for one in re.findall(r"^ *\((\d+)\)", docstring, re.MULTILINE)}
    marked = {int(one) for one in re.findall(r"# \((\d+)\)", source)}
    assert steps == set(range(1, 10))
    assert marked == steps
