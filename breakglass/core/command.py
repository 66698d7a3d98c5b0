# SPDX-License-Identifier: Apache-2.0
"""The command: what should happen, as the canonical text that people read and sign.

Rules:

- Each command has exactly one text: `parse_command` refuses every other encoding, and `summary`
  must be equal to the result of `summary_of`.  Nothing outside the text changes what happens (P3).
- Every field is present; "" and empty lists are written, not left out.
- The constructors of `Command` and its parts check the rules between fields.  `parse_command`
  checks the form of each text; every received or drafted command passes through it.

A `Command` has no authority and no signatures: `decide` verifies those.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TypeVar

from breakglass.core import bounds, canonical, names
from breakglass.core.canonical import Fields, Json
from breakglass.core.targets import EVERY_NODE, Targets, parse_pattern
from breakglass.errors import Malformed

__all__ = [
    "NAMESPACE",
    "Action",
    "Caps",
    "Command",
    "Mode",
    "Rollout",
    "Targets",
    "TrustPin",
    "Verb",
    "parse_command",
    "parse_verb",
    "render_command",
    "summary_of",
]

NAMESPACE = "breakglass-command-v1"  # the document's type and its SSHSIG namespace

_SHOWN_ITEMS = 4
_Choice = TypeVar("_Choice", bound=StrEnum)


class Verb(StrEnum):
    """What a command does to its workload's pods or holds."""

    STOP = "stop"
    EVICT = "evict"
    RELEASE = "release"
    EXTEND = "extend"

    @property
    def stops(self) -> bool:
        """Whether it stops pods; the other verbs only change how long pods stay stopped."""
        return self in {Verb.STOP, Verb.EVICT}


class Mode(StrEnum):
    """Whether a command acts, only plans (dry run), or acts as a drill."""

    EXECUTE = "execute"
    DRY_RUN = "dry-run"
    DRILL = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustPin:
    """The trust document under which a command is decided."""

    version: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What to do; a field that the verb does not have stays empty.

    Attributes:
        verb: what to do to the workload.
        namespace, name: the DaemonSet.
        revision: the DaemonSet revision's hash; "" for any.
        image: stop and evict: only pods with a container of this image, by its digest
            "sha256:..."; "" for any image.
        grace_s: stop and evict: whole seconds between SIGTERM and SIGKILL.
        hold_s: stop and evict: how long the workload is held, 0 for no hold; extend: how long
            the hold lasts from the extension on.
        holds_of: release and extend: the id of the command whose hold to change; "" for every hold
            of the workload and revision.
    """

    verb: Verb
    namespace: str
    name: str
    revision: str = ""
    image: str = ""
    grace_s: int = 0
    hold_s: int = 0
    holds_of: str = ""

    def __post_init__(self) -> None:
        """Raise `Malformed` for a field of another verb, or an extension by 0 s."""
        if self.verb.stops:
            wrong = bool(self.holds_of)
        else:
            wrong = bool(self.image or self.grace_s or (self.hold_s and self.verb is Verb.RELEASE))
        if wrong:
            raise Malformed(f"expected only the fields of {self.verb}, got another verb's")
        if self.verb is Verb.EXTEND and not self.hold_s:
            raise Malformed("expected a time to extend the hold by, got 0s")

    @property
    def workload(self) -> str:
        """The DaemonSet as "namespace/name"."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much a command may touch at most."""

    max_nodes: int
    max_pods_per_node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How the bastion rolls the command out; a node ignores it."""

    canary: int
    max_parallel: int
    max_failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command; equal commands have equal texts."""

    id: str
    domain: str
    trust: TrustPin
    action: Action
    targets: Targets
    caps: Caps
    rollout: Rollout
    mode: Mode
    incident: str
    reason: str
    requester: str
    created: datetime
    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        """Raise `Malformed` without a reason, or for a reversed, empty or too long window."""
        if not self.reason.strip():
            raise Malformed("expected a reason, got none")
        if not self.created <= self.not_before < self.not_after:
            raise Malformed("expected created <= not_before < not_after, got another order")
        if self.not_after - self.not_before > timedelta(seconds=bounds.MAX_WINDOW_S):
            longest = names.render_duration(bounds.MAX_WINDOW_S)
            raise Malformed(f"expected a window of at most {longest}, got a longer one")

    @property
    def summary(self) -> str:
        """The line in the text that says what the command does."""
        return summary_of(self)


def parse_command(raw: bytes) -> Command:
    """Return the command in `raw`.

    Raises:
        Malformed: `raw` is not the canonical text of a command; the code names the broken rule.
    """
    fields = Fields(canonical.parse_object(raw, max_bytes=bounds.MAX_COMMAND_BYTES))
    canonical_type = fields.text("type")
    if canonical_type != NAMESPACE:
        raise Malformed(
            f"expected the type {NAMESPACE}, got {names.quoted(canonical_type)}", code="wrong-type"
        )
    summary = fields.text("summary", max_chars=bounds.MAX_SUMMARY_CHARS)
    command = Command(
        id=fields.parsed("id", names.parse_id),
        domain=fields.parsed("domain", names.parse_name),
        trust=_trust_pin(fields.fields("trust")),
        action=_action(fields.fields("action")),
        targets=_targets(fields.fields("targets")),
        caps=_caps(fields.fields("limits")),
        rollout=_rollout(fields.fields("rollout")),
        mode=fields.parsed("mode", partial(_choice, Mode)),
        incident=fields.text("incident"),
        reason=fields.text("reason"),
        requester=fields.parsed("requester", names.parse_name),
        created=fields.parsed("created", names.parse_time),
        not_before=fields.parsed("not_before", names.parse_time),
        not_after=fields.parsed("not_after", names.parse_time),
    )
    fields.finish()
    canonical.verify_canonical(raw, _document(command, summary))
    if summary != command.summary:
        raise Malformed(
            f"expected the summary {names.quoted(command.summary)}, got {names.quoted(summary)}",
            code="summary-mismatch",
            hint="the summary does not match the command; find out who wrote it",
        )
    return command


def render_command(command: Command) -> bytes:
    """Return the canonical text of a command: the bytes that people sign."""
    return canonical.render(_document(command, summary_of(command)))


def summary_of(command: Command) -> str:
    """Return one line that says what the command does; long lists are cut and counted."""
    action, caps = command.action, command.caps
    mark = {Mode.EXECUTE: "", Mode.DRY_RUN: "DRY RUN: ", Mode.DRILL: "DRILL: "}[command.mode]
    revision = f"revision {action.revision}" if action.revision else "any revision"
    image = f", image {action.image}" if action.image else ""
    return (
        f"{mark}{action.verb.upper()} {action.workload}, {revision}{image},"
        f" on {_where(command.targets)}:"
        f" at most {_counted(caps.max_nodes, 'node')},"
        f" {_counted(caps.max_pods_per_node, 'pod')} each,"
        f" {_how(action)}"
    )


def _how(action: Action) -> str:
    of = f"the hold of {action.holds_of}" if action.holds_of else "every hold"
    hold = names.render_duration(action.hold_s)
    match action.verb:
        case Verb.RELEASE:
            return f"{of} ends"
        case Verb.EXTEND:
            return f"{of} lasts {hold} from then on"
        case _:
            held = f"hold {hold}" if action.hold_s else "no hold"
            return f"grace {names.render_duration(action.grace_s)}, {held}"


def _where(targets: Targets) -> str:
    chosen = [
        *([f"nodes {_listed(targets.nodes)}"] if targets.nodes else []),
        *([f"pools {_listed(targets.pools)}"] if targets.pools else []),
    ]
    nodes = "every node" if EVERY_NODE in targets.nodes else " and ".join(chosen)
    excepted = f" except nodes {_listed(targets.excepted)}" if targets.excepted else ""
    return f"{nodes} of {_listed(targets.clusters)}{excepted}"


def _listed(items: tuple[str, ...]) -> str:
    if len(items) <= _SHOWN_ITEMS:
        return ", ".join(items)
    return f"{', '.join(items[: _SHOWN_ITEMS - 1])} and {len(items) - _SHOWN_ITEMS + 1} more"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def parse_verb(text: str) -> Verb:
    """Return the verb with this name, or raise `Malformed`."""
    return _choice(Verb, text)


def _choice(choices: type[_Choice], text: str) -> _Choice:
    for choice in choices:
        if choice.value == text:
            return choice
    raise Malformed(f"expected one of {', '.join(choices)}, got {names.quoted(text)}")


def _trust_pin(fields: Fields) -> TrustPin:
    pin = TrustPin(
        version=fields.integer("version", low=1, high=bounds.MAX_JSON_INTEGER),
        sha256=fields.parsed("sha256", names.parse_sha256),
    )
    fields.finish()
    return pin


def _action(fields: Fields) -> Action:
    verb = fields.parsed("verb", parse_verb)
    namespace, name = fields.parsed("workload", names.parse_workload)
    action = Action(
        verb=verb,
        namespace=namespace,
        name=name,
        revision=fields.parsed("revision", _or_empty(names.parse_revision)),
        image=fields.parsed("image", _or_empty(names.parse_image)) if verb.stops else "",
        grace_s=_seconds(fields, "grace", bounds.MAX_GRACE_S) if verb.stops else 0,
        holds_of="" if verb.stops else fields.parsed("command", _or_empty(names.parse_id)),
        hold_s=0 if verb is Verb.RELEASE else _seconds(fields, "hold", bounds.MAX_HOLD_S),
    )
    fields.finish()
    return action


def _or_empty(parse: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: parse(text) if text else ""


def _seconds(fields: Fields, key: str, max_s: int) -> int:
    return fields.parsed(key, partial(names.parse_duration, max_s=max_s))


def _targets(fields: Fields) -> Targets:
    targets = Targets(
        clusters=fields.texts("clusters", names.parse_name, max_items=bounds.MAX_CLUSTERS),
        nodes=fields.texts("nodes", parse_pattern, max_items=bounds.MAX_PATTERNS),
        pools=fields.texts("pools", names.parse_name, max_items=bounds.MAX_PATTERNS),
        excepted=fields.texts("except", parse_pattern, max_items=bounds.MAX_PATTERNS),
    )
    fields.finish()
    return targets


def _caps(fields: Fields) -> Caps:
    caps = Caps(
        max_nodes=fields.integer("max_nodes", low=1, high=bounds.MAX_NODES),
        max_pods_per_node=fields.integer("max_pods_per_node", low=1, high=bounds.MAX_PODS_PER_NODE),
    )
    fields.finish()
    return caps


def _rollout(fields: Fields) -> Rollout:
    rollout = Rollout(
        canary=fields.integer("canary", low=0, high=bounds.MAX_NODES),
        max_parallel=fields.integer("max_parallel", low=1, high=bounds.MAX_PARALLEL),
        max_failures=fields.integer("max_failures", low=0, high=bounds.MAX_NODES),
    )
    fields.finish()
    return rollout


def _document(command: Command, summary: str) -> dict[str, Json]:
    targets = command.targets
    return {
        "type": NAMESPACE,
        "summary": summary,
        "id": command.id,
        "domain": command.domain,
        "trust": {"version": command.trust.version, "sha256": command.trust.sha256},
        "action": _action_document(command.action),
        "targets": {
            "clusters": list(targets.clusters),
            "nodes": list(targets.nodes),
            "pools": list(targets.pools),
            "except": list(targets.excepted),
        },
        "limits": {
            "max_nodes": command.caps.max_nodes,
            "max_pods_per_node": command.caps.max_pods_per_node,
        },
        "rollout": {
            "canary": command.rollout.canary,
            "max_parallel": command.rollout.max_parallel,
            "max_failures": command.rollout.max_failures,
        },
        "mode": command.mode.value,
        "incident": command.incident,
        "reason": command.reason,
        "requester": command.requester,
        "created": names.render_time(command.created),
        "not_before": names.render_time(command.not_before),
        "not_after": names.render_time(command.not_after),
    }


def _action_document(action: Action) -> dict[str, Json]:
    document: dict[str, Json] = {
        "verb": action.verb.value,
        "workload": action.workload,
        "revision": action.revision,
    }
    if action.verb.stops:
        document |= {"image": action.image, "grace": names.render_duration(action.grace_s)}
    else:
        document |= {"command": action.holds_of}
    if action.verb is not Verb.RELEASE:
        document |= {"hold": names.render_duration(action.hold_s)}
    return document
