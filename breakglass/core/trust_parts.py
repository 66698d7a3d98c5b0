# SPDX-License-Identifier: Apache-2.0
"""What a trust is made of: people with their keys, policies with their quorums, couriers.

Values only: how they are spelled is in `trust`, what makes them unsound together in `trust_lint`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from breakglass.core.command import Verb
from breakglass.core.sshkey import SshKey
from breakglass.core.targets import matches

NO_PREVIOUS = "0" * 64  # what version 1 gives as the digest of the version before


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """One key of a person; `verify_required` asks a security key for its PIN or fingerprint."""

    key: SshKey
    label: str
    verify_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who; a person with several keys is still counted once."""

    name: str
    groups: tuple[str, ...]
    keys: tuple[TrustedKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumPart:
    """How many distinct people of one group must approve."""

    group: str
    approvals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which approvals a command needs, and how much it may then touch at most."""

    name: str
    verbs: tuple[Verb, ...]
    clusters: tuple[str, ...]
    namespaces: tuple[str, ...]
    quorum: tuple[QuorumPart, ...]
    requester_may_approve: bool
    max_hold_s: int
    max_nodes: int

    def governs(self, verb: Verb, cluster: str, namespace: str) -> bool:
        """Tell whether this policy is about such a command on that cluster."""
        return (
            verb in self.verbs
            and any(matches(pattern, cluster) for pattern in self.clusters)
            and any(matches(pattern, namespace) for pattern in self.namespaces)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Courier:
    """A TLS client that may deliver and read; it has no authority."""

    name: str
    spki_sha256: str


def members_of(people: Iterable[Person], group: str) -> tuple[str, ...]:
    """Return the names of the people in `group`, in their order."""
    return tuple(person.name for person in people if group in person.groups)
