# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a signed file before approving or delivering it.

The text is shown as the exact bytes that are signed, never as a rendering of the parsed command.  A
text that is not a command is shown too, so that a person can see what arrived by mail: each line is
marked and every unusual byte is escaped.  This module decides nothing: the objections to a command
come from `core.decide`.
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

# Mail and editors may add bytes (line ends, a byte order mark), which `repair` removes again.
MAX_FILE_BYTES = 2 * bounds.MAX_SIGNED_FILE_BYTES
OLD = timedelta(hours=2)
SOON = timedelta(minutes=10)
MANY_NODES = 100
MANY_PODS = 20
ASK_NAMESPACES = frozenset({"kube-system", "kube-node-lease", "kube-public"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A file's parts, who approved it, and what stands against it.

    Attributes:
        trust: the home's trust; None if there is no home, so no signature can be checked.
        command: None if the text is not a command; then `problem` says why.
        checked: the counted and the defective signatures; None without a trust.
    """

    file: SignedFile
    trust: Trust | None
    command: Command | None
    problem: Malformed | None
    checked: CheckedSignatures | None
    objections: tuple[Refused, ...]
    now: datetime

    @property
    def code(self) -> str:
        """The short code that people read aloud to each other."""
        return code(self.file.text)

    @property
    def sha256(self) -> str:
        """The digest of the text."""
        return digest(self.file.text)

    @property
    def missing(self) -> tuple[str, ...]:
        """The people whose approval would count and is missing, in the trust's order."""
        if self.trust is None or self.command is None or self.checked is None:
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
                have = [one for one in members if one in self.checked.people]
                if len(have) < part.approvals:
                    found |= dict.fromkeys(one for one in members if one not in have)
        return tuple(found)


def read_file(path: Path) -> SignedFile:
    """Return a signed file, repaired if mail or chat changed its line ends; raise `Malformed`."""
    return parse_signed_file(repair(read_bytes(path)))


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raise `FileUnreadable`."""
    if path.is_dir():
        raise FileUnreadable(f"cannot read {path}: it is a folder", hint="name a file")
    return files.read_bounded(path, max_bytes=MAX_FILE_BYTES)


def review(file: SignedFile, trust: Trust | None, now: datetime) -> Review:
    """Parse a file, check its signatures, and return it with what stands against it now."""
    command, problem = _parsed(file)
    checked = count_people(file.text, file.armors, trust) if trust else None
    against: tuple[Refused, ...] = ()
    if command and trust and checked:
        skew_s = bounds.DEFAULT_SKEW_S
        against = tuple(objections(command, checked, trust, now, skew_s=skew_s))
    return Review(
        file=file,
        trust=trust,
        command=command,
        problem=problem,
        checked=checked,
        objections=against,
        now=now,
    )


def render(seen: Review) -> str:
    """Return a review as text: signed text, code, approvals, missing approvals, warnings."""
    return "\n".join((*_text_lines(seen), "", *_approval_lines(seen), *_warning_lines(seen)))


def escaped_lines(raw: bytes) -> tuple[str, ...]:
    """Return bytes as marked lines, escaped so that they cannot control a terminal."""
    lines = raw.decode("ascii", "backslashreplace").split("\n")
    return tuple(f"| {printable(line)}" for line in lines)


def document(seen: Review) -> dict[str, object]:
    """Return a review as a document for programs."""
    checked, command = seen.checked, seen.command
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
            for one in (checked.approvals if checked else ())
        ],
        "defects": [
            {"code": one.reason.value, "person": one.person, "message": one.message}
            for one in (checked.defects if checked else ())
        ],
        "missing": list(seen.missing),
        "objections": [
            {"code": one.reason.value, "needed": one.needed, "have": one.have, "hint": one.hint}
            for one in seen.objections
        ],
        "warnings": list(warnings(seen)),
    }


def warnings(seen: Review) -> tuple[str, ...]:
    """Return what a person should check before approving or delivering it."""
    command, now = seen.command, seen.now
    if command is None:
        return ("this text is not a breakglass command: do not approve it",)
    found = [*_mode_warnings(command), *_scope_warnings(command)]
    age, left = now - command.created, command.not_after - now
    if age > OLD:
        found.append(f"it was drafted {_span(age)} ago")
    elif age < -SOON:
        found.append(f"its draft time is {_span(-age)} in the future: compare the clocks")
    if left < timedelta(0):
        found.append(f"it expired {_span(-left)} ago, at {names.render_time(command.not_after)}")
    elif left < SOON:
        found.append(f"it expires soon, in {_span(left)}")
    if now < command.not_before:
        found.append(f"it is not valid before {names.render_time(command.not_before)}")
    if seen.trust is None:
        found.append("no trust on this machine: no signature was checked")
    return tuple(found)


def _parsed(file: SignedFile) -> tuple[Command | None, Malformed | None]:
    try:
        return parse_command(file.text), None
    except Malformed as error:
        return None, error


def _text_lines(seen: Review) -> tuple[str, ...]:
    if seen.command is None:
        return (
            "!! NOT A COMMAND.  Do not trust the text below; its bytes, escaped:",
            *escaped_lines(seen.file.text.removesuffix(b"\n")),
            f"!! {seen.problem.message if seen.problem else 'unknown'}",
        )
    return (
        *banner(seen.command),
        "---- the signed text ----",
        # The canonical form allows only printable ASCII and line feeds.
        seen.file.text.decode("ascii").removesuffix("\n"),
        "---- end of the signed text ----",
        "",
        seen.command.summary,
        *(f"  - {one}" for one in meaning(seen.command)),
        f"read this code aloud to each other:   {seen.code}",
        f"sha256: {seen.sha256}",
    )


def banner(command: Command) -> tuple[str, ...]:
    """Return the line that marks a drill or a dry run, above everything else."""
    if command.mode is Mode.DRILL:
        return (f"==== DRILL ==== a rehearsal: {drilled(command.action.verb)}",)
    if command.mode is Mode.DRY_RUN:
        return ("==== DRY RUN ==== nodes plan and report, and change nothing",)
    return ()


def _approval_lines(seen: Review) -> tuple[str, ...]:
    if seen.checked is None:
        return (f"signatures: {len(seen.file.armors)}, not checked: no trust on this machine",)
    found = [
        f"approved by {one.person}  {one.fingerprint}  {one.key_kind}"
        for one in seen.checked.approvals
    ]
    found += [
        f"NOT counted: {one.reason}{f' of {one.person}' if one.person else ''}: {one.message}"
        for one in seen.checked.defects
    ]
    found = found or ["no approval yet"]
    if seen.missing:
        found.append(f"missing: any of {', '.join(seen.missing)}")
    if seen.command and not seen.objections:
        found.append("verdict: approved under this home's trust; each node decides again")
    found += [f"not approved: {one.message} [{one.reason}]" for one in seen.objections]
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
            f"its caps are large: {caps.max_nodes} nodes, {caps.max_pods_per_node} pods each,"
            f" {most} pods in all"
        )
    if command.action.namespace in ASK_NAMESPACES:
        found.append(f"its namespace is {command.action.namespace}, which the cluster itself uses")
    return found


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
