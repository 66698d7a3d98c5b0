# SPDX-License-Identifier: Apache-2.0
"""`breakglass draft stop`: a command for people to approve.  It writes a file and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import FileUnreadable, UsageError

if TYPE_CHECKING:
    from breakglass.cli.review import Review
    from breakglass.fleet.drafting import Drafted


class _Given(TypedDict):
    """What the options give, each under its own name."""

    workload: str
    clusters: tuple[str, ...]
    reason: str
    incident: str
    requester: str | None
    nodes: tuple[str, ...]
    pools: tuple[str, ...]
    excepted: tuple[str, ...]
    hold: str
    grace: str
    mode: str
    valid: str
    max_pods: int


_LATER = ("evict", "release", "extend")


class Drafts(click.Group):
    """The verbs that can be drafted; those of a later release are said to be."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the verb, or say that it is not there yet."""
        if cmd_name in _LATER:
            raise UsageError(
                f"expected a verb of this version (stop), got {cmd_name}",
                code="verb-unsupported",
                hint="this version only stops; holds, their release and eviction come later",
            )
        return super().get_command(ctx, cmd_name)


@click.group(cls=Drafts)
def command() -> None:
    """Write a command for people to approve; nothing is done by it."""


@command.command("stop")
@click.argument("workload", metavar="NAMESPACE/DAEMONSET[@REVISION]")
@click.option("--cluster", "clusters", multiple=True, metavar="CLUSTER", help="By exact name.")
@click.option("--reason", default="", metavar="TEXT", help="Why; approvers read it.")
@click.option("--incident", default="", metavar="ID", help="The incident it belongs to.")
@click.option("--requester", metavar="NAME", help="Who asks for it.  [default: your login name]")
@click.option(
    "--node", "nodes", multiple=True, metavar="GLOB|RANGE", help="Only nodes such as n[01-20]."
)
@click.option("--pool", "pools", multiple=True, metavar="POOL", help="Only nodes of this pool.")
@click.option(
    "--except", "excepted", multiple=True, metavar="GLOB|RANGE", help="Never these nodes."
)
@click.option("--hold", default="0s", metavar="TIME", help="Not in this version: 0s.")
@click.option(
    "--grace", default="30s", show_default=True, metavar="TIME", help="Between SIGTERM and SIGKILL."
)
@click.option(
    "--mode",
    type=click.Choice(["execute", "dry-run", "drill"]),
    default="execute",
    show_default=True,
    help="A drill is real and marked as one; a dry run stops nothing.",
)
@click.option(
    "--valid", default="1h", show_default=True, metavar="TIME", help="How long it may be used."
)
@click.option(
    "--max-nodes", type=int, help="At most so many nodes.  [default: as many as it is for]"
)
@click.option("--max-pods", type=int, default=10, show_default=True, help="At most so many a node.")
@click.option("--parallel", type=int, help="So many nodes at once.")
@click.option(
    "-o",
    "out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The file to write.",
)
@click.pass_obj
def stop(
    session: Session,
    max_nodes: int | None,
    parallel: int | None,
    out: Path,
    **given: Unpack[_Given],
) -> Result:
    """Write a command that stops a DaemonSet's pods.

    Without --node and --pool it is for every node of the named clusters, and its text says so.
    """
    from breakglass.cli.review import document, review
    from breakglass.core import limits
    from breakglass.core.command import Mode, Verb, render_command
    from breakglass.core.draft import Asked
    from breakglass.core.signed_file import SignedFile
    from breakglass.fleet.drafting import draft_for

    home, now = session.home(), session.now()
    trust = home.trust()
    asked = Asked(
        verb=Verb.STOP,
        workload=given["workload"],
        clusters=given["clusters"],
        reason=given["reason"],
        requester=_requester(given["requester"]),
        max_nodes=1,
        nodes=given["nodes"],
        pools=given["pools"],
        excepted=given["excepted"],
        incident=given["incident"],
        grace=given["grace"],
        hold=given["hold"],
        valid=given["valid"],
        mode=Mode(given["mode"]),
        max_pods_per_node=given["max_pods"],
        max_parallel=limits.DEFAULT_PARALLEL if parallel is None else parallel,
    )
    drafted = draft_for(
        asked, trust=trust, inventory=home.inventory(), now=now, max_nodes=max_nodes
    )
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
        notes=_notes(drafted, seen, out),
    )


def _notes(drafted: "Drafted", seen: "Review", out: Path) -> tuple[str, ...]:
    found = [] if drafted.nodes else ["warning: the inventory has no node yet; limited to one"]
    able, needed = len(seen.missing), _most_approvals(seen)
    if able < needed:
        found.append(
            f"warning: it can never be approved: {needed} approvals are needed and only"
            f" {able} people may give one, the requester not among them"
        )
    else:
        found.append(f"needs {needed} of: {', '.join(seen.missing)}")
    found.append(f"next: breakglass approve {out} --key KEYFILE, by each of them")
    return tuple(found)


def _most_approvals(seen: "Review") -> int:
    trust, command = seen.trust, seen.command
    if trust is None or command is None:
        return 0
    found = (
        trust.policy_for(command.action.verb, cluster, command.action.namespace)
        for cluster in command.targets.clusters
    )
    return max(
        (sum(part.approvals for part in policy.quorum) for policy in found if policy), default=0
    )


def _requester(given: str | None) -> str:
    from breakglass.fleet.founding import login_name

    requester = given if given is not None else login_name()
    if not requester:
        raise UsageError(
            "expected a requester, got none", hint="say who asks for it with --requester NAME"
        )
    return requester


def _write(out: Path, text: bytes) -> None:
    """Write the draft, but never over approvals or a file that is something else."""
    from breakglass.cli.review import read_file
    from breakglass.core.command import parse_command
    from breakglass.errors import Malformed
    from breakglass.fleet import files

    if out.exists() and (out.is_dir() or out.stat().st_size > 0):
        hint = "choose another FILE; nothing was overwritten"
        try:
            there = read_file(out)
            parse_command(there.text)
        except (Malformed, FileUnreadable) as error:
            raise FileUnreadable(
                f"expected a new file, got {out}, which is something else", code="exists", hint=hint
            ) from error
        if there.armors:
            raise FileUnreadable(
                f"expected a new file, got {out}, which holds approvals", code="exists", hint=hint
            )
    files.write_atomically(out, text, mode=files.PUBLIC_FILE)
