# SPDX-License-Identifier: Apache-2.0
"""`breakglass-agent`: the program on the node.

    serve         run the agent
    submit        deliver a signed file from standard input through the agent's socket
    describe      show what the running agent says of itself
    check-config  read every setting and file, and ask the runtime, without starting anything

It needs nothing but the agent's own dependencies.  Results go to stdout as JSON lines, talk to
stderr; the exit statuses are those of `breakglass`.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from breakglass import __version__
from breakglass.agent import local
from breakglass.agent.config import Config, load, read_identity
from breakglass.agent.cri import CriRuntime
from breakglass.agent.daemon import forbid_name_resolution, log_as_json, serve
from breakglass.core import limits
from breakglass.core.entries import Finished
from breakglass.core.signed_file import repair
from breakglass.errors import BreakglassError, Defect, Exit, Interrupted, UsageError

DEFAULT_CONFIG = "/etc/breakglass/agent.toml"
DEBUG_VARIABLE = "BREAKGLASS_DEBUG"
_WHOLE = {"done", "planned", "nothing"}


def main() -> None:
    """Run the program and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the program with these arguments; return the exit status."""
    try:
        chosen = _parser().parse_args(arguments)
        forbid_name_resolution()
        status: int = chosen.verb(chosen)
    except BreakglassError as error:
        return _tell(error)
    except KeyboardInterrupt:
        return _tell(Interrupted("expected to be left alone, got an interrupt"))
    except Exception as error:  # noqa: BLE001 - the outermost place: a defect is told, not dumped
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        return _tell(Defect(f"expected no {type(error).__name__}, got one: {error}"))
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise in place of exiting."""
        raise UsageError(f"expected other arguments, got: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="breakglass-agent", description="The breakglass agent on a node.")
    parser.add_argument("--version", action="version", version=f"breakglass-agent {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB", parser_class=_Parser)
    for name, verb, line in (
        ("serve", _serve, "run the agent"),
        ("submit", _submit, "deliver a signed file from standard input"),
        ("describe", _describe, "show what the running agent says of itself"),
        ("check-config", _check_config, "read every setting and file, start nothing"),
        ("release-all", _release_all, "let go of every hold (a later release)"),
    ):
        one = verbs.add_parser(name, help=line, description=line)
        one.add_argument("--config", type=Path, default=Path(DEFAULT_CONFIG), metavar="FILE")
        one.set_defaults(verb=verb)
    return parser


def _serve(chosen: argparse.Namespace) -> int:
    log_as_json()
    serve(load(chosen.config))
    return Exit.DONE


def _submit(chosen: argparse.Namespace) -> int:
    config = load(chosen.config)
    if sys.stdin.isatty():
        raise UsageError(
            "expected a signed file on standard input, got a terminal",
            hint="breakglass-agent submit < FILE",
        )
    raw = repair(sys.stdin.buffer.read(limits.MAX_REQUEST_BYTES))
    status = Exit.INCOMPLETE
    for told in local.submit(config.socket, raw):
        print(json.dumps(_line(told)), flush=True)
        if told.kind == "refused":
            status = Exit.REFUSED
        elif told.entry is not None and isinstance(told.entry.body, Finished):
            end = told.entry.body
            status = Exit.DONE if end.result in _WHOLE else Exit.INCOMPLETE
            status = Exit.REFUSED if end.result == "refused" else status
    return status


def _line(told: local.LocalProgress) -> dict[str, Any]:
    """Return one step as a JSON line."""
    if told.kind == "refused":
        return {
            "step": told.kind,
            "code": told.code,
            "needed": told.needed,
            "have": told.have,
            "hint": told.hint,
        }
    body = dataclasses.asdict(told.entry.body) if told.entry is not None else {}
    body.pop("file", None)
    return {"step": told.kind, "repeated": told.repeated} | body


def _describe(chosen: argparse.Namespace) -> int:
    found = local.describe(load(chosen.config).socket)
    shown = {
        field.name: getattr(found, field.name)
        for field in found.DESCRIPTOR.fields
        if field.name not in {"checkpoint", "protected"}
    }
    shown["protected"] = list(found.protected)
    shown["checkpoint"] = found.checkpoint.decode("utf-8", "replace")
    print(json.dumps(shown, indent=2))
    return Exit.DONE


def _check_config(chosen: argparse.Namespace) -> int:
    config = load(chosen.config)
    identity = read_identity(config)
    runtime = asyncio.run(_ask_runtime(config))
    print(
        json.dumps(
            {
                "node": config.name,
                "cluster": config.cluster,
                "trust": identity.trust.sha256,
                "listen": config.address,
                "socket": str(config.socket),
                "runtime": runtime,
                "protected": len(config.protected),
            },
            indent=2,
        )
    )
    return Exit.DONE


async def _ask_runtime(config: Config) -> str:
    runtime = CriRuntime(config.runtime_endpoint)
    try:
        found = await runtime.version()
    finally:
        await runtime.close()
    return f"{found.name} {found.version}"


def _release_all(_: argparse.Namespace) -> int:
    raise UsageError(
        "expected a verb of this version, got release-all",
        code="not-in-this-version",
        hint="this version holds nothing down, so there is nothing to let go of",
    )


def _tell(error: BreakglassError) -> int:
    """Say an error on stderr as one JSON line, for a journal and a person alike."""
    line = {"error": error.message, "code": error.stable_code, "hint": error.hint}
    print(json.dumps(line), file=sys.stderr)
    return error.exit_status


if __name__ == "__main__":
    main()
