# SPDX-License-Identifier: Apache-2.0
"""The result of a verb, and the one place that prints a result or an error.

Rules: the result goes to stdout, notes and errors go to stderr.  With `--output json` stdout is
exactly one document, whatever happened, with `code` and `hint`.  Every error is of
`breakglass.errors` when it is shown; any other exception is a defect, shown in one line, with a
traceback only where BREAKGLASS_DEBUG=1 is set.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from breakglass.errors import BreakglassError, Defect, Exit, Interrupted

Document: TypeAlias = Mapping[str, object]

OK = "ok"
DEBUG = "BREAKGLASS_DEBUG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a verb found or did.

    Attributes:
        text: for people, to stdout.
        document: for programs; `ok`, `exit`, `code` and `hint` are put in front of it.
        raw: bytes that go to stdout unchanged, in place of the text.
        notes: lines for people, to stderr.
        exit_status: how the verb ended; any status but DONE needs a code, a message and a hint.
    """

    text: str = ""
    document: Document = field(default_factory=dict)
    raw: bytes | None = None
    notes: tuple[str, ...] = ()
    exit_status: Exit = Exit.DONE
    code: str = OK
    message: str = ""
    hint: str = ""


def show_result(result: Result, output: str) -> int:
    """Print a result; return the exit status."""
    for note in result.notes:
        talk(note)
    if output == "json":
        _print_document(result)
    elif result.raw is not None:
        sys.stdout.buffer.write(result.raw)
    elif result.text:
        print(result.text)
    sys.stdout.flush()
    if output != "json" and result.exit_status is not Exit.DONE:
        _talk_failure(result.code, result.message, result.hint)
    return int(result.exit_status)


def requested_output(arguments: Sequence[str]) -> str:
    """Return the value of `--output`, "text" or "json", even if the arguments cannot be parsed."""
    output = "text"
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--output=json" or (
            argument == "--output" and list(arguments[place + 1 : place + 2]) == ["json"]
        ):
            output = "json"
    return output


def show_error(error: BaseException, output: str, *, program: str = "breakglass") -> int:
    """Print an error of either program; return the exit status."""
    known = as_known(error)
    if output == "json":
        _print_document(
            Result(
                exit_status=known.exit_status,
                code=known.stable_code,
                message=known.message,
                hint=known.hint,
            )
        )
        sys.stdout.flush()
    else:
        _talk_failure(known.stable_code, known.message, known.hint, program=program)
    if isinstance(known, Defect) and os.environ.get(DEBUG) == "1":
        traceback.print_exception(error, file=sys.stderr)
    return int(known.exit_status)


def as_known(error: BaseException) -> BreakglassError:
    """Return the error of `breakglass.errors` for any exception."""
    if isinstance(error, BreakglassError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted before the end")
    return Defect(
        f"expected no error, got {type(error).__name__}: {printable(str(error))}",
        hint=f"please report this; run it again with {DEBUG}=1 for a traceback",
    )


def talk(text: str = "") -> None:
    """Print a line for people to stderr, with unprintable characters escaped."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return `text` with every control, format and undecodable character escaped."""
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _print_document(result: Result) -> None:
    done = result.exit_status is Exit.DONE
    head = {"ok": done, "exit": int(result.exit_status), "code": result.code}
    if not done:
        head["message"] = result.message
    head["hint"] = result.hint
    tail = {"notes": list(result.notes)} if result.notes else {}
    print(json.dumps(head | dict(result.document) | tail, indent=2, ensure_ascii=True))


def _talk_failure(code: str, message: str, hint: str, *, program: str = "breakglass") -> None:
    talk(f"{program}: {message} [{code}]")
    if hint:
        talk(f"hint: {hint}")
