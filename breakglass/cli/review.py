# SPDX-License-Identifier: Apache-2.0
"""A signed file as a person must see it before approving or delivering it.

The text is shown as the bytes that are signed, never as a rendering of what they parse to.  A text
that is no command is shown all the same, each line marked and every unusual byte escaped, because a
person who wonders what came by mail should see it.  Nothing here decides: what stands against a
command is what `core.decide` says.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from breakglass.cli.meaning import drilled, meaning
from breakglass.cli.result import printable
from breakglass.core import bounds, names
from breakglass.core.command import Command, Mode, parse_command
from breakglass.core.decide import CheckedSignatures, Refused, count_people, objections
from breakglass.core.signed_file import SignedFile, code, digest, parse_signed_file, repair
from breakglass.core.targets import EVERY_NODE
from breakglass.core.trust import Trust
from breakglass.errors import FileUnreadable, Malformed
from breakglass.fleet.home import files

# What a person's tools may add to a file (line ends, a byte order mark) before it is repaired.
MAX_FILE_BYTES = 2 * bounds.MAX_SIGNED_FILE_BYTES
OLD = timedelta(hours=2)
SOON = timedelta(minutes=10)
MANY_NODES = 100
MANY_PODS = 20
ASK_NAMESPACES = frozenset({"kube-system", "kube-node-lease", "kube-public"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What a file holds, and what stands against it.

    Attributes:
        trust: the home's, or None where there is no home: then nobody's approval can be checked.
        command: None when the text is not the text of a command; then `problem` says why.
    """

    file: SignedFile
    trust: Trust | None
    command: Command | None
    problem: Malformed | None
    tally: CheckedSignatures | None
    objections: tuple[Refused, ...]
    now: datetime

    @property
    def code(self) -> str:
        """What people read to each other."""
        return code(self.file.text)

    @property
    def sha256(self) -> str:
        """The digest of the text."""
        return digest(self.file.text)

    @property
    def missing(self) -> tuple[str, ...]:
        """The people whose approval would count and is not there, in the trust's order."""
        if self.trust is None or self.command is None or self.tally is None:
            return ()
        command, action = self.command, self.command.action
        found: dict[str, None] = {}
        for cluster in command.targets.clusters:
            policy = self.trust.policy_for(action.verb, cluster, action.namespace)
            if policy is None:
                continue
            barred = "" if policy.requester_may_approve else command.requester
            for part in policy.quorum:
                members = [one for one in self.trust.members(part.group) if one != barred]
                have = [one for one in members if one in self.tally.people]
                if len(have) < part.approvals:
                    found |= dict.fromkeys(one for one in members if one not in have)
        return tuple(found)


def read_file(path: Path) -> SignedFile:
    """Return a signed file as mail and chat may have left it; raise `Malformed` for another."""
    return parse_signed_file(repair(read_bytes(path)))


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raise `FileUnreadable`."""
    if path.is_dir():
        raise FileUnreadable(f"expected a file, got the folder {path}")
    return files.read_bounded(path, max_bytes=MAX_FILE_BYTES)


def review(file: SignedFile, trust: Trust | None, now: datetime) -> Review:
    """Return what a file holds and what stands against it now."""
    command, problem = _parsed(file)
    tally = count_people(file.text, file.armors, trust) if trust else None
    against: tuple[Refused, ...] = ()
    if command and trust and tally:
        skew_s = bounds.DEFAULT_SKEW_S
        against = tuple(objections(command, tally, trust, now, skew_s=skew_s))
    return Review(
        file=file,
        trust=trust,
        command=command,
        problem=problem,
        tally=tally,
        objections=against,
        now=now,
    )


def render(seen: Review) -> str:
    """Return the whole of it for people: text, code, approvals, who is missing, warnings."""
    return "\n".join((*_text_lines(seen), "", *_approval_lines(seen), *_warning_lines(seen)))


def escaped_lines(raw: bytes) -> tuple[str, ...]:
    """Return bytes as lines that no terminal can be fooled by, each one marked."""
    lines = raw.decode("ascii", "backslashreplace").split("\n")
    return tuple(f"| {printable(line)}" for line in lines)


def document(seen: Review) -> dict[str, object]:
    """Return the same for programs."""
    tally, command = seen.tally, seen.command
    return {
        "sha256": seen.sha256,
        "spoken_code": seen.code,
        "text": seen.file.text.decode("ascii", "backslashreplace"),
        "id": command.id if command else None,
        "mode": command.mode.value if command else None,
        "summary": command.summary if command else None,
        "meaning": list(meaning(command)) if command else [],
        "signatures": len(seen.file.armors),
        "approvals": [
            {"person": one.person, "key": one.fingerprint, "kind": one.key_kind}
            for one in (tally.approvals if tally else ())
        ],
        "defects": [
            {"code": one.reason.value, "person": one.person, "message": one.message}
            for one in (tally.defects if tally else ())
        ],
        "missing": list(seen.missing),
        "objections": [
            {"code": one.reason.value, "needed": one.needed, "have": one.have, "hint": one.hint}
            for one in seen.objections
        ],
        "warnings": list(warnings(seen)),
    }


def warnings(seen: Review) -> tuple[str, ...]:
    """Return what a person should think about before going on."""
    command, now = seen.command, seen.now
    if command is None:
        return ("this is not the text of a command of ours: do not approve it",)
    found = [*_mode_warnings(command), *_scope_warnings(command)]
    age, left = now - command.created, command.not_after - now
    if age > OLD:
        found.append(f"it was drafted {_span(age)} ago")
    elif age < -SOON:
        found.append(f"it was drafted {_span(-age)} in the future: compare clocks")
    if left < timedelta(0):
        found.append(f"it expired {_span(-left)} ago, at {names.render_time(command.not_after)}")
    elif left < SOON:
        found.append(f"it expires soon, in {_span(left)}")
    if now < command.not_before:
        found.append(f"it is not valid before {names.render_time(command.not_before)}")
    if seen.trust is None:
        found.append("there is no trust here: nobody's approval could be checked")
    return tuple(found)


def _parsed(file: SignedFile) -> tuple[Command | None, Malformed | None]:
    try:
        return parse_command(file.text), None
    except Malformed as error:
        return None, error


def _text_lines(seen: Review) -> tuple[str, ...]:
    if seen.command is None:
        return (
            "!! NOT A COMMAND.  Nothing below is to be trusted; its bytes, escaped:",
            *escaped_lines(seen.file.text.removesuffix(b"\n")),
            f"!! {seen.problem.message if seen.problem else 'unknown'}",
        )
    return (
        *banner(seen.command),
        "---- the signed text ----",
        # Only printable ASCII and line feeds, by the canonical form; each line is one of JSON.
        seen.file.text.decode("ascii").removesuffix("\n"),
        "---- end of the signed text ----",
        "",
        seen.command.summary,
        *(f"  - {one}" for one in meaning(seen.command)),
        f"read this code aloud to each other:   {seen.code}",
        f"sha256: {seen.sha256}",
    )


def banner(command: Command) -> tuple[str, ...]:
    """Return the line that nobody must miss on a drill or a dry run."""
    if command.mode is Mode.DRILL:
        return (f"==== DRILL ==== a rehearsal: {drilled(command.action.verb)}",)
    if command.mode is Mode.DRY_RUN:
        return ("==== DRY RUN ==== nodes look and plan, and change nothing",)
    return ()


def _approval_lines(seen: Review) -> tuple[str, ...]:
    if seen.tally is None:
        return (f"signatures: {len(seen.file.armors)}, of people unknown here",)
    found = [
        f"approved by {one.person}  {one.fingerprint}  {one.key_kind}"
        for one in seen.tally.approvals
    ]
    found += [
        f"NOT counted: {one.reason}{f' of {one.person}' if one.person else ''}: {one.message}"
        for one in seen.tally.defects
    ]
    found = found or ["approved by nobody yet"]
    if seen.missing:
        found.append(f"missing: any of {', '.join(seen.missing)}")
    if seen.command and not seen.objections:
        found.append("verdict: approved, as far as can be seen here")
    found += [f"against it: {one.message} [{one.reason}]" for one in seen.objections]
    return tuple(found)


def _warning_lines(seen: Review) -> tuple[str, ...]:
    found = warnings(seen)
    return ("", *(f"warning: {one}" for one in found)) if found else ()


def _mode_warnings(command: Command) -> list[str]:
    return [f"a drill: {drilled(command.action.verb)}"] if command.mode is Mode.DRILL else []


def _scope_warnings(command: Command) -> list[str]:
    targets, caps, found = command.targets, command.caps, []
    if EVERY_NODE in targets.nodes:
        found.append(f"it is for every node of {', '.join(targets.clusters)}")
    if len(targets.clusters) > 1:
        found.append(f"it is for {len(targets.clusters)} clusters at once")
    many_pods = command.action.verb.stops and caps.max_pods_per_node > MANY_PODS
    if caps.max_nodes > MANY_NODES or many_pods:
        most = caps.max_nodes * caps.max_pods_per_node
        found.append(
            f"its limits are large: {caps.max_nodes} nodes, {caps.max_pods_per_node} pods each,"
            f" {most} pods in all"
        )
    if command.action.namespace in ASK_NAMESPACES:
        found.append(f"it is about {command.action.namespace}, where clusters keep their own parts")
    return found


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
