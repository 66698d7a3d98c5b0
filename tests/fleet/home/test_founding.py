# SPDX-License-Identifier: Apache-2.0
"""Founding a home: who may, with which quorum and keys, and never over another."""

import stat
from pathlib import Path

import pytest

from breakglass.errors import BreakglassError
from breakglass.fleet.home.founding import Founder, found
from breakglass.fleet.home.home import Home
from breakglass.fleet.home.identity import spki_sha256
from tests.support.homes import NOW


def test_a_founded_home_holds_what_it_says(home: Home) -> None:
    """Trust version 1, a quorum of 2, the courier's pin, an empty inventory, private files."""
    trust = Home.at(home.path).trust()
    assert (trust.domain, trust.version) == ("example", 1)
    (policy,) = trust.policies
    assert [(one.group, one.approvals) for one in policy.quorum] == [("people", 2)]
    assert not policy.requester_may_approve
    assert policy.max_hold_s == 24 * 3600
    assert trust.couriers[0].spki_sha256 == spki_sha256(home.courier().certificate)
    assert home.inventory().nodes == ()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(one.stat().st_mode) & 0o077 == 0 for one in home.path.rglob("*"))


@pytest.mark.parametrize(
    ("pick", "quorum", "code"),
    [
        (slice(0, 0), 2, "too-few-people"),
        (slice(0, 1), 2, "too-few-people"),
        (slice(0, 2), 1, "quorum-unsatisfiable"),
        (slice(0, 2), 3, "quorum-unsatisfiable"),
        (slice(0, 2), -1, "quorum-unsatisfiable"),
    ],
)
def test_one_person_or_an_impossible_quorum_is_refused(
    tmp_path: Path, people: tuple[tuple[str, Path], ...], pick: slice, quorum: int, code: str
) -> None:
    """One person alone must not stop pods; nothing is written after a refusal."""
    founder = Founder(domain="example", people=people[pick], quorum=quorum)
    with pytest.raises(BreakglassError) as error:
        found(tmp_path / "home", founder, courier="bastion", now=NOW)
    assert error.value.stable_code == code
    assert not (tmp_path / "home").exists()


def test_one_key_of_two_people_is_refused(
    tmp_path: Path, people: tuple[tuple[str, Path], ...]
) -> None:
    """Otherwise one person could approve twice."""
    twice = (people[0], ("eve", people[0][1]))
    with pytest.raises(BreakglassError, match="once"):
        found(
            tmp_path / "home",
            Founder(domain="example", people=twice, quorum=2),
            courier="bastion",
            now=NOW,
        )


def test_a_private_key_file_is_refused(
    tmp_path: Path, people: tuple[tuple[str, Path], ...]
) -> None:
    """A private key given by mistake is not read into a trust."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    founder = Founder(domain="example", people=(*people, ("eve", secret)), quorum=2)
    with pytest.raises(BreakglassError) as error:
        found(tmp_path / "home", founder, courier="bastion", now=NOW)
    assert error.value.stable_code == "private-key"


def test_a_home_is_not_made_over_another(home: Home, people: tuple[tuple[str, Path], ...]) -> None:
    """A second `init` leaves the first trust as it is."""
    before = home.trust_text()
    founder = Founder(domain="other", people=people, quorum=2)
    with pytest.raises(BreakglassError) as error:
        found(home.path, founder, courier="bastion", now=NOW)
    assert error.value.stable_code == "exists"
    assert home.trust_text() == before
