# SPDX-License-Identifier: Apache-2.0
"""`breakglass draft`: write a command file for people to approve.  It changes nothing else.

Each verb has only the options that mean something for it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import click
from click.core import ParameterSource

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import FileUnreadable, Malformed, UsageError

if TYPE_CHECKING:
    from breakglass.cli.review import Review
    from breakglass.core.command import Verb
    from breakglass.core.draft import DraftRequest
    from breakglass.fleet.rollout.draft import Drafted

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Decorator = Callable[[Any], Any]


class _Common(TypedDict):
    """The options that every verb has."""

    workload: str
    clusters: tuple[str, ...]
    reason: str
    incident: str
    requester: str | None
    nodes: tuple[str, ...]
    pools: tuple[str, ...]
    excepted: tuple[str, ...]
    mode: str
    valid: str
    max_nodes: int | None
    max_pods: int | None
    parallel: int | None
    out: Path


class _StopOptions(_Common):
    """The options of a stop and an evict."""

    hold: str
    grace: str
    image: str


class _Releasing(_Common):
    """The options of a release."""

    holds_of: str


class _Extending(_Releasing):
    """The options of an extend."""

    hold: str


def _given(context: click.Context, option: click.Parameter, value: str) -> str:
    """Refuse an empty value, as of an unset shell variable: it must not mean "all" (P8)."""
    is_left_out = context.get_parameter_source(option.name or "") is ParameterSource.DEFAULT
    if not value and not is_left_out:
        raise UsageError(
            f"expected a value for {option.opts[0]}, got an empty one",
            code="empty-target",
            hint=f"leave {option.opts[0]} out to mean all",
        )
    return value


def _options(*options: _Decorator) -> Callable[[_Function], _Function]:
    """Return a decorator that adds these options to a verb, in this order."""

    def decorated(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


_WHERE: tuple[_Decorator, ...] = (
    click.argument("workload", metavar="NAMESPACE/DAEMONSET[@REVISION]"),
    click.option(
        "--cluster",
        "clusters",
        multiple=True,
        metavar="CLUSTER",
        help="The exact name of a cluster; repeat it for more.",
    ),
    click.option("--reason", default="", metavar="TEXT", help="Why; approvers read it."),
    click.option("--incident", default="", metavar="ID", help="The incident's id."),
    click.option(
        "--requester", metavar="NAME", help="Who requests it.  [default: your login name]"
    ),
    click.option(
        "--node", "nodes", multiple=True, metavar="GLOB|RANGE", help="Only nodes such as n[01-20]."
    ),
    click.option("--pool", "pools", multiple=True, metavar="POOL", help="Only nodes of this pool."),
    click.option(
        "--except", "excepted", multiple=True, metavar="GLOB|RANGE", help="Not these nodes."
    ),
)
_HOW_FAR: tuple[_Decorator, ...] = (
    click.option(
        "--mode",
        type=click.Choice(["execute", "dry-run", "drill"]),
        default="execute",
        show_default=True,
        help="A drill really acts and is marked as a drill; a dry run changes nothing.",
    ),
    click.option(
        "--valid", default="1h", show_default=True, metavar="TIME", help="How long nodes accept it."
    ),
    click.option(
        "--max-nodes", type=int, help="The most nodes to act on.  [default: all that it selects]"
    ),
)
_OUT: tuple[_Decorator, ...] = (
    click.option("--parallel", type=int, help="How many nodes at the same time."),
    click.option(
        "-o",
        "out",
        type=click.Path(path_type=Path),
        required=True,
        metavar="FILE",
        help="The file to write.",
    ),
)
_STOPPING: tuple[_Decorator, ...] = (
    *_WHERE,
    click.option(
        "--image",
        default="",
        callback=_given,
        metavar="sha256:HEX",
        help="Only pods with a container of this image.",
    ),
    click.option(
        "--hold",
        default="",
        metavar="TIME",
        help="How long to keep the pods down; 0s only stops them."
        "  [default: 2h, or less if the policy allows less]",
    ),
    click.option(
        "--grace",
        default="30s",
        show_default=True,
        metavar="TIME",
        help="Time between SIGTERM and SIGKILL.",
    ),
    *_HOW_FAR,
    click.option("--max-pods", type=int, help="The most pods on each node.  [default: 10]"),
    *_OUT,
)
_OF_COMMAND = click.option(
    "--command",
    "holds_of",
    default="",
    callback=_given,
    metavar="ID",
    help="Only the hold of this command.  [default: every hold of the workload]",
)
_FOR_PODS = click.option(
    "--max-pods", type=int, help="The most pods on each node.  [default: 1000]"
)


@click.group()
def command() -> None:
    """Write a command file for people to approve; it contacts no node."""


@command.command("stop")
@_options(*_STOPPING)
@click.pass_obj
def stop(session: Session, **given: Unpack[_StopOptions]) -> Result:
    """Write a command that stops a DaemonSet's pods and keeps them down.

    Without --node and --pool it selects every node of the named clusters, and its text says so.
    """
    from breakglass.core.command import Verb

    return _draft(session, given, _stopping(Verb.STOP, given))


@command.command("evict")
@_options(*_STOPPING)
@click.pass_obj
def evict(session: Session, **given: Unpack[_StopOptions]) -> Result:
    """Write a command that stops pods, keeps them down and stops their sandboxes.

    Stopping a sandbox removes the pod's network. The pod is down even if that fails.
    """
    from breakglass.core.command import Verb

    return _draft(session, given, _stopping(Verb.EVICT, given))


@command.command("release")
@_options(*_WHERE, _OF_COMMAND, *_HOW_FAR, _FOR_PODS, *_OUT)
@click.pass_obj
def release(session: Session, **given: Unpack[_Releasing]) -> Result:
    """Write a command that ends the holds of a workload, so that its pods may run again.

    The pods start when kubelet tries again: at once, or up to 5 minutes later.
    """
    from dataclasses import replace

    from breakglass.core.command import Verb

    asked = replace(_request(Verb.RELEASE, given), holds_of=given["holds_of"])
    return _draft(session, given, asked)


@command.command("extend")
@_options(
    *_WHERE,
    _OF_COMMAND,
    click.option(
        "--hold",
        default="",
        metavar="TIME",
        help="How long from when a node accepts it.  [default: 2h, or less if the policy allows"
        " less]",
    ),
    *_HOW_FAR,
    _FOR_PODS,
    *_OUT,
)
@click.pass_obj
def extend(session: Session, **given: Unpack[_Extending]) -> Result:
    """Write a command that makes holds last longer; it never shortens a hold."""
    from dataclasses import replace

    from breakglass.core.command import Verb

    asked = _request(Verb.EXTEND, given)
    return _draft(session, given, replace(asked, holds_of=given["holds_of"], hold=given["hold"]))


def _stopping(verb: "Verb", given: _StopOptions) -> "DraftRequest":
    from dataclasses import replace

    return replace(
        _request(verb, given), image=given["image"], hold=given["hold"], grace=given["grace"]
    )


def _request(verb: "Verb", given: _Common) -> "DraftRequest":
    """Return the draft request of the options that every verb has."""
    from breakglass.core import bounds
    from breakglass.core.command import Mode
    from breakglass.core.draft import DEFAULT_MAX_PODS, DraftRequest

    max_pods = DEFAULT_MAX_PODS if verb.stops else bounds.MAX_PODS_PER_NODE
    return DraftRequest(
        verb=verb,
        workload=given["workload"],
        clusters=given["clusters"],
        reason=given["reason"],
        requester=_requester(given["requester"]),
        max_nodes=1,
        nodes=given["nodes"],
        pools=given["pools"],
        excepted=given["excepted"],
        incident=given["incident"],
        valid=given["valid"],
        mode=Mode(given["mode"]),
        max_pods_per_node=max_pods if given["max_pods"] is None else given["max_pods"],
        max_parallel=bounds.DEFAULT_PARALLEL if given["parallel"] is None else given["parallel"],
    )


def _draft(session: Session, given: _Common, asked: "DraftRequest") -> Result:
    """Write the draft, and return a result that says what to do next."""
    from breakglass.cli.review import document, review
    from breakglass.core.command import render_command
    from breakglass.core.signed_file import SignedFile
    from breakglass.fleet.rollout.draft import draft_for

    home, now, out = session.home(), session.now(), given["out"]
    trust = home.trust()
    try:
        drafted = draft_for(
            asked, trust=trust, inventory=home.inventory(), now=now, max_nodes=given["max_nodes"]
        )
    except Malformed as error:  # an argument is wrong, not a file: the default hint does not fit
        hint = f"see `breakglass draft {asked.verb} --help`"
        raise Malformed(error.message, code=error.stable_code, hint=hint) from error
    text = render_command(drafted.command)
    _write(out, text)
    seen = review(SignedFile(text=text, armors=()), trust, now)
    return Result(
        text=f"{drafted.command.summary}\nwrote {out}, code {seen.code}",
        document={
            "file": str(out),
            "nodes": [node.name for node in drafted.nodes],
            **document(seen),
        },
        notes=(*_hold_notes(drafted, asked), *_notes(drafted, seen, out)),
    )


def _hold_notes(drafted: "Drafted", asked: "DraftRequest") -> tuple[str, ...]:
    """Return how long the pods will stay down, and the command that ends the hold earlier."""
    from breakglass.core.command import Mode
    from breakglass.core.names import render_duration

    action = drafted.command.action
    if not action.verb.stops or drafted.command.mode is Mode.DRY_RUN:
        return ()
    if not action.hold_s:
        return ("no hold: kubelet starts these pods again within seconds",)
    why = "" if asked.hold else ", the default; --hold 0s only stops them"
    return (
        f"it keeps them down for {render_duration(action.hold_s)}{why}",
        f"to end that: breakglass draft release {_same_targets(asked)} --reason TEXT -o FILE",
    )


def _same_targets(asked: "DraftRequest") -> str:
    """Return the arguments that name the same workload on the same nodes."""
    import shlex

    words = [asked.workload]
    for option, values in (
        ("--cluster", asked.clusters),
        ("--node", asked.nodes),
        ("--pool", asked.pools),
        ("--except", asked.excepted),
    ):
        words += [word for value in values for word in (option, value)]
    return shlex.join(words)


def _notes(drafted: "Drafted", seen: "Review", out: Path) -> tuple[str, ...]:
    found = [] if drafted.nodes else ["warning: the inventory has no node yet; capped at one node"]
    able, needed = len(seen.missing), _most_approvals(seen)
    if able < needed:
        found.append(
            f"warning: it can never be approved: it needs {needed} approvals, and only"
            f" {able} people may give one (the requester may not)"
        )
    else:
        found.append(f"needs {needed} approvals of: {', '.join(seen.missing)}")
    found.append(f"next: each approver runs `breakglass approve {out} --key KEYFILE`")
    return tuple(found)


def _most_approvals(seen: "Review") -> int:
    from breakglass.fleet.rollout.draft import governing

    if seen.trust is None or seen.command is None:
        return 0
    policies = governing(seen.command, seen.trust)
    return max((sum(part.approvals for part in policy.quorum) for policy in policies), default=0)


def _requester(given: str | None) -> str:
    from breakglass.fleet.home.founding import login_name

    requester = given if given is not None else login_name()
    if not requester:
        raise UsageError(
            "expected a requester, got none", hint="name who requests it with --requester NAME"
        )
    return requester


def _write(out: Path, text: bytes) -> None:
    """Write the draft; refuse to replace a file with approvals, or one that is no draft."""
    from breakglass.cli.review import read_file
    from breakglass.core.command import parse_command
    from breakglass.fleet.home import files

    if out.exists() and (out.is_dir() or out.stat().st_size > 0):
        hint = "choose another FILE; the existing one was not changed"
        try:
            there = read_file(out)
            parse_command(there.text)
        except (Malformed, FileUnreadable) as error:
            raise FileUnreadable(
                f"cannot write {out}: the file exists and is not a draft", code="exists", hint=hint
            ) from error
        if there.armors:
            raise FileUnreadable(
                f"cannot write {out}: the file exists and has approvals", code="exists", hint=hint
            )
    files.write_atomically(out, text, mode=files.PUBLIC_FILE)
