# SPDX-License-Identifier: Apache-2.0
"""`breakglass-agent`: the command line on the node.

    serve          run the agent (systemd does)
    submit         deliver a signed file from stdin through the node's own socket
    describe       tell who this node is and how it is
    metrics        print this node's figures as Prometheus text
    release-all    end every hold and open every gate here, with the agent stopped
    check-config   read the settings and all they name, and start nothing

Standard library only, so that a node installs neither click nor rich.  Endings become exit statuses
in the same place as those of `breakglass`.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from breakglass import __version__
from breakglass.cli.result import OK, Result, show_error, show_result, talk
from breakglass.errors import Exit, NodeError, Unreached, UsageError

if TYPE_CHECKING:
    from breakglass.agent.config import Config
    from breakglass.agent.serve.client import LocalProgress

PROGRAM = "breakglass-agent"
DEFAULT_CONFIG = Path("/etc/breakglass/agent.toml")
# With an ECDSA certificate no TLS 1.2 suite is left in common, so only 1.3 is spoken (RFC 8446).
ONLY_TLS13 = "ECDHE-RSA-AES256-GCM-SHA384"
LATER = {"dial-stdio": "that road comes later"}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the arguments."""
        raise UsageError(
            f"expected a command line as in --help, got: {message}",
            hint=f"see `{self.prog} --help`",
        )


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(
        prog=PROGRAM,
        description="The breakglass agent of a node: stops pods when enough people signed it.",
        epilog="Exit statuses: 0 done, 2 usage or configuration, 3 refused, 4 not all done or this"
        " node cannot, 5 no agent answers, 6 evidence does not verify, 70 a defect.",
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM}, version {__version__}")
    top.add_argument("--output", choices=("text", "json"), default="text")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for verb, (_, words) in VERBS.items():
        one = verbs.add_parser(verb, help=words, description=words)
        one.add_argument(
            "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=str(DEFAULT_CONFIG)
        )
        one.add_argument(
            "--output", choices=("text", "json"), default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return top


def run(arguments: Sequence[str]) -> int:
    """Run the program with these arguments; return the exit status."""
    output = "json" if "--output=json" in arguments or _json_follows(arguments) else "text"
    try:
        _verify_built(arguments)
        chosen = parser().parse_args(list(arguments))
        work, _ = VERBS[chosen.verb]
        return show_result(work(chosen.config), output)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - the outermost place: all is told
        return show_error(error, output, program=PROGRAM)


def main() -> NoReturn:
    """Run the program and exit."""
    sys.exit(run(sys.argv[1:]))


def _json_follows(arguments: Sequence[str]) -> bool:
    return ("--output", "json") in itertools.pairwise(arguments)


def _verify_built(arguments: Sequence[str]) -> None:
    """Raise for a verb that people may have read of and that is not there yet."""
    for verb, why in LATER.items():
        if verb in arguments:
            raise UsageError(
                f"expected a verb of this version, got {verb}: {why}",
                code="not-in-this-version",
                hint=f"see `{PROGRAM} --help`",
            )


def _serve(path: Path) -> Result:
    # gRPC reads this once, when it is imported, so it stands before all that imports gRPC.
    os.environ["GRPC_SSL_CIPHER_SUITES"] = ONLY_TLS13
    from breakglass.agent import daemon
    from breakglass.agent.config import load

    config = load(path)
    daemon.forbid_name_resolution()
    daemon.log_as_json()
    daemon.serve(config)
    return Result()


def _check_config(path: Path) -> Result:
    from breakglass.agent.config import load, read_identity

    config = load(path)
    trust = read_identity(config).trust
    runtime, error = _ask_runtime(config)
    people = ", ".join(person.name for person in trust.people)
    text = (
        f"{path} is good",
        f"node {config.name} of cluster {config.cluster}, domain {config.domain}",
        f"listens on {config.address or 'no address'} and {config.socket}",
        f"trust version {trust.version}, sha256 {trust.sha256}, people {people}",
        f"{len(config.protected)} patterns of protected workloads",
        f"runtime {runtime or 'does not answer'}",
    )
    return Result(
        text="\n".join(text),
        document={
            "node": config.name,
            "cluster": config.cluster,
            "domain": config.domain,
            "address": config.address,
            "socket": str(config.socket),
            "trust": {"version": trust.version, "sha256": trust.sha256},
            "protected": list(config.protected),
            "runtime": runtime,
        },
        notes=() if config.protected else ("warning: nothing is protected on this node",),
        exit_status=error.exit_status if error else Exit.DONE,
        code=error.stable_code if error else OK,
        message=error.message if error else "",
        hint=error.hint if error else "",
    )


def _ask_runtime(config: "Config") -> "tuple[str, NodeError | None]":
    """Return the runtime's name and version, or why it does not answer."""
    import asyncio

    from breakglass.agent.runtime.cri import CriRuntime

    async def ask() -> str:
        runtime = CriRuntime(config.runtime_endpoint)
        try:
            found = await runtime.version()
        finally:
            await runtime.close()
        return f"{found.name} {found.version}"

    try:
        return asyncio.run(ask()), None
    except NodeError as error:
        return "", error


def _describe(path: Path) -> Result:
    from breakglass.agent.config import load
    from breakglass.agent.serve.client import describe

    found = describe(load(path).socket)
    document = {
        "version": found.version,
        "domain": found.domain,
        "cluster": found.cluster,
        "node": found.node,
        "pool": found.pool,
        "node_time": found.node_time,
        "trust": {"version": found.trust_version, "sha256": found.trust_sha256},
        "log_key": found.log_key,
        "checkpoint": found.checkpoint.decode("utf-8", "replace"),
        "runtime": found.runtime,
        "runtime_ready": found.runtime_ready,
        "protected": list(found.protected),
        "active_commands": found.active_commands,
        "time_floor": found.time_floor,
    }
    lines = [f"{key}: {value}" for key, value in document.items() if key != "checkpoint"]
    return Result(text="\n".join(lines), document=document)


def _metrics(path: Path) -> Result:
    from breakglass.agent.config import load
    from breakglass.agent.serve.client import metrics

    text = metrics(load(path).socket)
    return Result(text=text.rstrip(), document={"metrics": text})


def _release_all(path: Path) -> Result:
    from breakglass.agent.config import load
    from breakglass.agent.release_all import release_all

    done = release_all(load(path))
    lines = [
        *(f"hold of {hold} ended" for hold in done.holds),
        *(f"{pod} let go" for pod in done.pods),
        *(f"opened {group}, which the log does not know" for group in done.unrecorded),
    ]
    problems = [*done.failed, *([f"log not used: {done.log_error}"] if done.log_error else [])]
    return Result(
        text="\n".join(lines) or "nothing was held here",
        document={
            "holds": done.holds,
            "pods": done.pods,
            "unrecorded": done.unrecorded,
            "failed": done.failed,
            "log_error": done.log_error,
        },
        notes=("kubelet starts the pods again when its back-off is over, within 5 minutes",)
        if done.pods or done.unrecorded
        else (),
        exit_status=Exit.INCOMPLETE if problems else Exit.DONE,
        code="not-released" if problems else OK,
        message=f"expected everything let go, got: {'; '.join(problems)}" if problems else "",
        hint="open what is left by hand: docs/runbooks/let-go.md" if problems else "",
    )


def _submit(path: Path) -> Result:
    from breakglass.agent.config import load
    from breakglass.agent.serve.client import submit
    from breakglass.core import bounds
    from breakglass.core.signed_file import repair

    config = load(path)
    if sys.stdin.isatty():
        talk("reading a signed file from the terminal; end it with Ctrl-D")
    raw = sys.stdin.buffer.read(2 * bounds.MAX_SIGNED_FILE_BYTES + 1)
    if not raw.strip():
        raise UsageError(
            "expected a signed file on stdin, got nothing",
            code="empty-input",
            hint=f"{PROGRAM} submit < FILE",
        )
    steps = []
    for step in submit(config.socket, repair(raw)):
        steps.append(step)
        talk(_told(step))
    return _ended(steps)


def _told(step: "LocalProgress") -> str:
    from breakglass.core.entries import Accepted, Finished, PodEnded
    from breakglass.core.progress import ProgressKind

    again = " (delivered before: this is the first outcome)" if step.repeated else ""
    if step.kind is ProgressKind.REFUSED:
        return f"refused [{step.code}]: expected {step.needed}, got {step.have}"
    match step.entry.body if step.entry else None:
        case Accepted() as body:
            return f"{_mark(body.mode)}accepted {body.id}: {body.summary}{again}"
        case PodEnded() as body:
            held = f", held by {body.gate}" if body.gate else ""
            held += f" ({body.gate_note})" if body.gate_note else ""
            seen = f"{body.seen} after {body.ms} ms{held}"
            return f"{_mark(body.mode)}{body.namespace}/{body.name}: {seen}"
        case Finished(result="released" | "extended") as body:
            return f"{_mark(body.mode)}finished: {body.result}: {body.note}{again}"
        case Finished() as body:
            return (
                f"{_mark(body.mode)}finished: {body.result}, {body.down} of {body.pods} pods seen"
                f" down, {body.restarted} started again, {body.ms} ms{again}"
            )
        case _:
            return str(step.kind)


def _mark(mode: str) -> str:
    return {"drill": "DRILL ", "dry-run": "DRY RUN "}.get(mode, "")


def _ended(steps: "list[LocalProgress]") -> Result:
    from dataclasses import asdict

    from breakglass.core.entries import Finished
    from breakglass.core.progress import ProgressKind

    last = steps[-1] if steps else None
    entries = [asdict(one.entry.body) | {"kind": one.entry.kind} for one in steps if one.entry]
    document: dict[str, object] = {"entries": entries}
    if last is not None and last.kind is ProgressKind.REFUSED:
        return Result(
            text="refused",
            document=document,
            exit_status=Exit.REFUSED,
            code=last.code,
            message=f"expected {last.needed}, got {last.have}",
            hint=last.hint,
        )
    body = last.entry.body if last and last.entry else None
    if not isinstance(body, Finished):
        raise Unreached(
            "expected the end of the command, got the end of the answers", code="broke-off"
        )
    text = _told(last) if last else ""
    if body.result in {"done", "planned", "released", "extended"}:
        return Result(text=text, document=document)
    return Result(
        text=text,
        document=document,
        exit_status=Exit.INCOMPLETE,
        code=body.code or body.result,
        message=f"expected it done, got {body.result}" + (f": {body.note}" if body.note else ""),
        hint="look at the pods and the runtime of this node",
    )


VERBS: dict[str, tuple[Callable[[Path], Result], str]] = {
    "serve": (_serve, "run the agent until SIGTERM"),
    "submit": (_submit, "deliver a signed file from stdin through this node's own socket"),
    "describe": (_describe, "tell who this node is, what it trusts and how it is"),
    "metrics": (_metrics, "print this node's figures as Prometheus text"),
    "release-all": (_release_all, "with the agent stopped: end every hold, open every gate here"),
    "check-config": (_check_config, "read the settings and all they name, and start nothing"),
}


if __name__ == "__main__":
    main()
