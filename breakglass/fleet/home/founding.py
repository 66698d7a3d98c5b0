# SPDX-License-Identifier: Apache-2.0
"""Found a domain: make the first trust from people's public keys, and the first home.

The first trust has one group, `people`, and one policy for every verb, cluster and namespace: the
quorum is a number of these people, the requester does not count, and a hold lasts at most 24 hours.
A domain that needs other policies writes them into version 2 of its trust.

No program can check whose key a file holds: the founder compares the fingerprints with the people.
"""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from breakglass.core import bounds, names
from breakglass.core.command import Verb
from breakglass.core.sshkey import SshKey, parse_public_key_file
from breakglass.core.trust import Trust, render_trust
from breakglass.core.trust_parts import (
    NO_PREVIOUS,
    Courier,
    Person,
    Policy,
    QuorumPart,
    TrustedKey,
)
from breakglass.errors import Malformed, UsageError
from breakglass.fleet.home import files, identity
from breakglass.fleet.home.home import Home

GROUP = "people"
POLICY = "default"
FIRST_POLICY_MAX_HOLD_S = 24 * 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Founder:
    """The parameters of the first trust: the people's key files and the quorum."""

    domain: str
    people: tuple[tuple[str, Path], ...]
    quorum: int


def found(home: Path, founder: Founder, *, courier: str, now: datetime) -> tuple[Home, Trust]:
    """Make a new home with trust version 1; raise before anything is written."""
    names.parse_name(founder.domain)
    keys = _keys_of(founder.people)
    _verify_quorum(founder.quorum, len(keys))
    ca = identity.make_ca(founder.domain, now=now)
    own = identity.make_courier(ca, courier, now=now)
    trust = Trust(
        domain=founder.domain,
        version=1,
        previous_sha256=NO_PREVIOUS,
        created=now.replace(microsecond=0),
        people=tuple(
            Person(name=name, groups=(GROUP,), keys=trusted) for name, trusted in keys.items()
        ),
        policies=(_policy(founder.quorum),),
        couriers=(
            Courier(
                name=names.parse_name(courier),
                spki_sha256=identity.spki_sha256(own.certificate),
            ),
        ),
    )
    return Home.create(home, trust=render_trust(trust), ca=ca, courier=own), trust


def login_name() -> str:
    """Return the login name of this session, or "" if it is not a valid name in a command."""
    try:
        return names.parse_name(getpass.getuser().lower())
    except (Malformed, OSError, KeyError):
        return ""


def _keys_of(people: tuple[tuple[str, Path], ...]) -> Mapping[str, tuple[TrustedKey, ...]]:
    """Return each person's keys, read from the files; a person may have several files."""
    found: dict[str, tuple[TrustedKey, ...]] = {}
    for name, path in people:
        names.parse_name(name)
        key, comment = _read_key(path)
        label = comment if comment.isascii() and comment.isprintable() else ""
        trusted = TrustedKey(key=key, label=label[: bounds.MAX_TEXT_CHARS], verify_required=False)
        found[name] = (*found.get(name, ()), trusted)
    return found


def _read_key(path: Path) -> tuple[SshKey, str]:
    raw = files.read_bounded(path, max_bytes=bounds.MAX_PUBLIC_KEY_BYTES)
    if b"PRIVATE KEY" in raw:
        raise UsageError(
            f"expected a public key in {path}, got a private one",
            code="private-key",
            hint="give the .pub file; the private key must stay with its owner",
        )
    try:
        return parse_public_key_file(raw.decode("utf-8", "replace"))
    except Malformed as error:
        raise Malformed(
            f"{error.message} in {path}",
            code=error.stable_code,
            hint="give an OpenSSH public key file: ed25519, ecdsa, rsa from 3072 bits on, or sk-*",
        ) from error


def _verify_quorum(quorum: int, people: int) -> None:
    least = bounds.MIN_APPROVALS_TO_STOP
    if people < least:
        raise UsageError(
            f"expected at least {least} people, got {people}",
            code="too-few-people",
            hint="give --person NAME=KEY.pub for each person; one person alone must not stop pods",
        )
    if not least <= quorum <= people:
        raise UsageError(
            f"expected a quorum from {least} to the number of people, {people}, got {quorum}",
            code="quorum-unsatisfiable",
            hint="change --quorum, or name more people",
        )


def _policy(quorum: int) -> Policy:
    return Policy(
        name=POLICY,
        verbs=tuple(Verb),
        clusters=("*",),
        namespaces=("*",),
        quorum=(QuorumPart(group=GROUP, approvals=quorum),),
        requester_may_approve=False,
        max_hold_s=FIRST_POLICY_MAX_HOLD_S,
        max_nodes=bounds.MAX_NODES,
    )
