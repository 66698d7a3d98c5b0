# SPDX-License-Identifier: Apache-2.0
"""The parts of a trust: people with their keys, policies with their quorums, couriers.

Data classes only: `trust` parses and renders them, `trust_lint` verifies that they are sound.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from breakglass.core.command import Verb
from breakglass.core.sshkey import SshKey
from breakglass.core.targets import matches

NO_PREVIOUS = "0" * 64  # previous_sha256 of version 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """One key of a person; `verify_required` makes a security key ask for PIN or fingerprint."""

    key: SshKey
    label: str
    verify_required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person who may approve; one with several keys is still counted once."""

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
    """The approvals that a command needs, and the caps on what it may do."""

    name: str
    verbs: tuple[Verb, ...]
    clusters: tuple[str, ...]
    namespaces: tuple[str, ...]
    quorum: tuple[QuorumPart, ...]
    requester_may_approve: bool
    max_hold_s: int
    max_nodes: int

    def governs(self, verb: Verb, cluster: str, namespace: str) -> bool:
        """Return whether this policy governs the verb and namespace on the cluster."""
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
