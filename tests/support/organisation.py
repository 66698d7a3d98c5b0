# SPDX-License-Identifier: Apache-2.0
"""A small world to tell stories about: people with keys, a trust, commands and approvals.

`Organisation("ana bo luc", quorum=2)` is the same in every run.  Each person has two keys, an
Ed25519 and an ECDSA one.  "olga" drafts the commands and is not in the trust; "mallory" has a
key that is not in the trust.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from breakglass.core import canonical, names
from breakglass.core import command as commands
from breakglass.core.command import (
    Action,
    Caps,
    Command,
    Mode,
    Rollout,
    Targets,
    TrustPin,
    Verb,
    render_command,
)
from breakglass.core.decide import Approved, Verdict, decide
from breakglass.core.trust import Trust, parse_trust
from tests.support import ssh_keys
from tests.support.ssh_keys import SigningKey

NOW = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)


class Organisation:
    """A domain and its people.

    Args:
        people: their names, as words; all are in the group "people".
        quorum: how many of them a stop needs.
        groups: more groups, each with its members as words.
        keys: other keys than the usual two, by person.
        verify_required: the people whose security keys must verify them.
        policies: whole policies in place of the one that `quorum` makes; see `policy`.
        couriers: SPKI digests of TLS clients, by name.
        now: when commands are drafted.
    """

    def __init__(
        self,
        people: str = "ana bo luc",
        *,
        quorum: int = 2,
        groups: Mapping[str, str] | None = None,
        keys: Mapping[str, tuple[SigningKey, ...]] | None = None,
        verify_required: str = "",
        policies: tuple[dict[str, Any], ...] = (),
        couriers: Mapping[str, str] | None = None,
        domain: str = "example",
        now: datetime = NOW,
    ) -> None:
        self.domain = domain
        self.now = now
        usual = {name: usual_keys(name) for name in people.split()}
        self.keys = {**usual, **(keys or {})}
        self.stranger = ssh_keys.ed25519("mallory")
        memberships = {"people": people, **(groups or {})}
        self.trust_document: dict[str, Any] = {
            "type": "breakglass-trust-v1",
            "domain": domain,
            "version": 1,
            "previous_sha256": "0" * 64,
            "created": "2026-01-05T09:00:00Z",
            "people": [
                {
                    "name": name,
                    "groups": [one for one, who in memberships.items() if name in who.split()],
                    "keys": [
                        {
                            "key": key.line,
                            "label": f"{name}'s {key.kind}",
                            "verify_required": name in verify_required.split(),
                        }
                        for key in self.keys[name]
                    ],
                }
                for name in self.keys
            ],
            "policies": list(policies) or [policy(quorum={"people": quorum})],
            "couriers": [
                {"name": name, "spki_sha256": digest} for name, digest in (couriers or {}).items()
            ],
        }
        self.trust_text = canonical.render(self.trust_document)
        self.trust: Trust = parse_trust(self.trust_text)
        self._drafted = 0

    def draft(
        self,
        *,
        verb: str = "stop",
        workload: str = "monitoring/telemetry",
        revision: str = "",
        image: str = "",
        grace_s: int | None = None,
        hold_s: int | None = None,
        holds_of: str = "",
        clusters: str = "prod-a",
        nodes: str = "*",
        pools: str = "",
        excepted: str = "",
        max_nodes: int = 3,
        max_pods_per_node: int = 10,
        max_parallel: int = 16,
        mode: str = "execute",
        incident: str = "INC-1211",
        reason: str = "telemetry floods the API servers",
        requester: str = "olga",
        created: datetime | None = None,
        starts_s: int = 0,
        valid_s: int = 3600,
        as_id: str = "",
        domain: str = "",
        trust_version: int = 1,
        trust_sha256: str = "",
    ) -> Command:
        """Return a command, each with its own id; lists are given as words.

        A stop and an evict have a grace of 30 s and no hold unless told otherwise, an extend 1 h.
        """
        self._drafted += 1
        created = created or self.now
        namespace, name = names.parse_workload(workload)
        return Command(
            id=as_id or command_id(created, self._drafted),
            domain=domain or self.domain,
            trust=TrustPin(version=trust_version, sha256=trust_sha256 or self.trust.sha256),
            action=Action(
                verb=Verb(verb),
                namespace=namespace,
                name=name,
                revision=revision,
                image=image,
                grace_s=(30 if Verb(verb).stops else 0) if grace_s is None else grace_s,
                hold_s=(3600 if verb == "extend" else 0) if hold_s is None else hold_s,
                holds_of=holds_of,
            ),
            targets=Targets(
                clusters=tuple(clusters.split()),
                nodes=tuple(nodes.split()),
                pools=tuple(pools.split()),
                excepted=tuple(excepted.split()),
            ),
            caps=Caps(max_nodes=max_nodes, max_pods_per_node=max_pods_per_node),
            rollout=Rollout(canary=0, max_parallel=max_parallel, max_failures=max_nodes),
            mode=Mode(mode),
            incident=incident,
            reason=reason,
            requester=requester,
            created=created,
            not_before=created + timedelta(seconds=starts_s),
            not_after=created + timedelta(seconds=starts_s + valid_s),
        )

    def command(self, **overrides: Any) -> bytes:  # noqa: ANN401 - any of draft's
        """Return the text of a command; the overrides are those of `draft`."""
        return render_command(self.draft(**overrides))

    def approve(
        self,
        text: bytes,
        person: str,
        *,
        key: int = 0,
        namespace: str = commands.NAMESPACE,
        hash_name: str = "sha512",
    ) -> bytes:
        """Return the approval of `text` by one person, or by "mallory", as an armored signature."""
        signer = self.stranger if person == "mallory" else self.keys[person][key]
        return signer.sign(text, namespace=namespace, hash_name=hash_name)

    def signed(self, text: bytes, people: str) -> bytes:
        """Return the signed file of `text` with the approvals of those people."""
        return text + b"".join(self.approve(text, person) for person in people.split())

    def decide(
        self, text: bytes, *approvals: str | bytes, at_s: int = 0, skew_s: int = 0
    ) -> Verdict:
        """Return the verdict on `text` with approvals of people, or with armors as they are."""
        armors = tuple(
            self.approve(text, one) if isinstance(one, str) else one for one in approvals
        )
        now = self.now + timedelta(seconds=at_s)
        return decide(text, armors, self.trust, now, skew_s=skew_s)

    def approved(self, people: str = "ana bo", **overrides: Any) -> Approved:  # noqa: ANN401
        """Return an approved command."""
        verdict = self.decide(self.command(**overrides), *people.split())
        if not isinstance(verdict, Approved):
            raise TypeError(f"expected an approved command, got one refused for {verdict.reason}")
        return verdict


def usual_keys(person: str) -> tuple[SigningKey, ...]:
    """Return a person's Ed25519 and ECDSA keys."""
    return ssh_keys.ed25519(f"{person} first"), ssh_keys.ecdsa(f"{person} second")


def policy(
    name: str = "everything",
    *,
    quorum: Mapping[str, int] | None = None,
    verbs: str = "stop evict release extend",
    clusters: str = "*",
    namespaces: str = "*",
    requester_may_approve: bool = False,
    max_hold: str = "24h",
    max_nodes: int = 1000,
) -> dict[str, Any]:
    """Return a policy as it stands in a trust; lists are given as words."""
    parts = {"people": 2} if quorum is None else quorum
    return {
        "name": name,
        "verbs": verbs.split(),
        "clusters": clusters.split(),
        "namespaces": namespaces.split(),
        "quorum": [{"group": group, "approvals": count} for group, count in parts.items()],
        "requester_may_approve": requester_may_approve,
        "max_hold": max_hold,
        "max_nodes": max_nodes,
    }


def command_id(created: datetime, nth: int) -> str:
    """Return the id of the nth command drafted at that time, the same in every run."""
    entropy = hashlib.sha256(f"command {nth}".encode()).digest()[:10]
    return names.render_id(int(created.timestamp() * 1000), entropy)


def edited(text: bytes, place: str, value: object) -> bytes:
    """Return a document with the value at a place such as "action.verb" or "people.0.name" changed.

    The spelling stays canonical; the summary is left as it was.
    """
    document = json.loads(text)
    *path, last = (int(step) if step.isdigit() else step for step in place.split("."))
    spot: Any = document
    for step in path:
        spot = spot[step]
    spot[last] = copy.deepcopy(value)
    return canonical.render(document)
