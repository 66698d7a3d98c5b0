# SPDX-License-Identifier: Apache-2.0
"""What a verb gives back, and the one place that turns it or an error into output and status.

Rules: the result goes to stdout, talk goes to stderr.  With `--output json` stdout is exactly one
document, whatever happened, with `code` and `hint`.  Every error is of `breakglass.errors` by the
time it is shown; anything else is a defect of ours, told in one line, with a traceback only
where BREAKGLASS_DEBUG=1 asks for it.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping
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
        raw: bytes that go to stdout exactly, in place of the text.
        notes: talk about it, to stderr.
        exit_status: how it ended; anything but DONE needs a code, a message and a hint.
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


def show_error(error: BaseException, output: str, *, program: str = "breakglass") -> int:
    """Print an error, in one place for every verb of both programs; return the exit status."""
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
    """Return an error of the tree for any exception."""
    if isinstance(error, BreakglassError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("expected to finish, got interrupted")
    return Defect(
        f"expected no {type(error).__name__}, got one: {printable(str(error))}",
        hint=f"please report this; {DEBUG}=1 shows where it happened",
    )


def talk(text: str = "") -> None:
    """Print a line for people to stderr; what came from outside is made harmless."""
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
