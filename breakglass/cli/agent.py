# SPDX-License-Identifier: Apache-2.0
"""`breakglass-agent`: the command line on the node.

    serve          run the agent until SIGTERM (systemd starts it)
    submit         deliver a signed file from stdin to the agent on this node
    describe       print this node's identity, trust, runtime and log state
    metrics        print this node's metrics as Prometheus text
    release-all    end every hold and remove every gate on this node; the agent must be stopped
    check-config   check the settings and every file they name, without starting the agent

It uses the standard library only, so that a node installs neither click nor rich.  `cli.result`
turns its results and errors into output and exit statuses, as for `breakglass`.
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
LATER = {"dial-stdio": "the road through SSH comes in a later version"}


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError`."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` instead of printing and exiting."""
        raise UsageError(
            f"expected a command line as in --help, got: {message}",
            hint=f"see `{self.prog} --help`",
        )


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(
        prog=PROGRAM,
        description="The breakglass agent of a node: stops pods on commands that enough people"
        " have signed.",
        epilog="Exit statuses: 0 done, 2 usage or configuration, 3 refused, 4 not all done, or this"
        " node has a fault, 5 no agent answers, 6 evidence does not verify, 70 a defect.",
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
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - the one place that shows errors
        return show_error(error, output, program=PROGRAM)


def main() -> NoReturn:
    """Run the program and exit."""
    sys.exit(run(sys.argv[1:]))


def _json_follows(arguments: Sequence[str]) -> bool:
    return ("--output", "json") in itertools.pairwise(arguments)


def _verify_built(arguments: Sequence[str]) -> None:
    """Raise `UsageError` for a verb that a later version will have."""
    for verb, why in LATER.items():
        if verb in arguments:
            raise UsageError(
                f"expected a verb of this version, got {verb}: {why}",
                code="not-in-this-version",
                hint=f"see `{PROGRAM} --help`",
            )


def _serve(path: Path) -> Result:
    # gRPC reads this variable once, when it is imported: set it before any import of gRPC.
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
        notes=() if config.protected else ("warning: no workload is protected on this node",),
        exit_status=error.exit_status if error else Exit.DONE,
        code=error.stable_code if error else OK,
        message=error.message if error else "",
        hint=error.hint if error else "",
    )


def _ask_runtime(config: "Config") -> "tuple[str, NodeError | None]":
    """Return the runtime's name and version, or the error if it does not answer."""
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
        *(f"gate of {pod} removed" for pod in done.pods),
        *(f"gate of {group} removed; the log has no entry about it" for group in done.unrecorded),
    ]
    problems = [
        *done.failed,
        *([f"the log could not be used: {done.log_error}"] if done.log_error else []),
    ]
    return Result(
        text="\n".join(lines) or "no hold and no gate on this node",
        document={
            "holds": done.holds,
            "pods": done.pods,
            "unrecorded": done.unrecorded,
            "failed": done.failed,
            "log_error": done.log_error,
        },
        notes=("kubelet starts the pods again when its back-off ends, up to 5 minutes later",)
        if done.pods or done.unrecorded
        else (),
        exit_status=Exit.INCOMPLETE if problems else Exit.DONE,
        code="not-released" if problems else OK,
        message=f"not everything was released: {'; '.join(problems)}" if problems else "",
        hint="remove what is left by hand: docs/runbooks/let-go.md" if problems else "",
    )


def _submit(path: Path) -> Result:
    from breakglass.agent.config import load
    from breakglass.agent.serve.client import submit
    from breakglass.core import bounds
    from breakglass.core.signed_file import repair

    config = load(path)
    if sys.stdin.isatty():
        talk("reading a signed file from the terminal; press Ctrl-D at its end")
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
        talk(_line(step))
    return _result(steps)


def _line(step: "LocalProgress") -> str:
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


def _result(steps: "list[LocalProgress]") -> Result:
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
            "the agent closed the connection before it reported the outcome", code="broke-off"
        )
    text = _line(last) if last else ""
    if body.result in {"done", "planned", "released", "extended"}:
        return Result(text=text, document=document)
    return Result(
        text=text,
        document=document,
        exit_status=Exit.INCOMPLETE,
        code=body.code or body.result,
        message=f"the command ended as {body.result}" + (f": {body.note}" if body.note else ""),
        hint="check the pods and the container runtime of this node",
    )


VERBS: dict[str, tuple[Callable[[Path], Result], str]] = {
    "serve": (_serve, "run the agent until SIGTERM"),
    "submit": (_submit, "deliver a signed file from stdin to the agent on this node"),
    "describe": (_describe, "print this node's identity, trust, runtime and log state"),
    "metrics": (_metrics, "print this node's metrics as Prometheus text"),
    "release-all": (
        _release_all,
        "end every hold and remove every gate on this node; the agent must be stopped",
    ),
    "check-config": (
        _check_config,
        "check the settings and every file they name, without starting the agent",
    ),
}


if __name__ == "__main__":
    main()
