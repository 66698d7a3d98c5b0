# SPDX-License-Identifier: Apache-2.0
"""Run the transcripts of a document and compare what they print with what it says they print.

    python -m tools.readme_transcripts README.md

A transcript is a fenced block that opens with ```console and stands right below the line
`<!-- transcript -->`.  In it, `$ ` starts a command (`> ` continues it); the lines up to the next
one are what it prints on stdout and stderr together.  In an expected line `...` stands for anything
within the line, and a line that is only `...` for any number of lines.  A command whose output ends
with `[exit N]` is expected to exit with N, others with 0.  All blocks of a document run in order,
by one shell directory and with this environment's programs first on PATH.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "<!-- transcript -->"
TIMEOUT_S = 120
_EXIT = re.compile(r"\[exit (\d+)\]")
# What a reader's shell has and a stranger's settings must not change.
_KEPT = ("LANG", "TMPDIR", "USER", "LOGNAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a transcript."""

    line: int
    command: str
    expected: tuple[str, ...]
    status: int


def parse(text: str) -> tuple[Step, ...]:
    """Return the steps of all marked blocks; raise ValueError for a mark without a block."""
    lines = text.splitlines()
    steps: list[Step] = []
    for number, line in enumerate(lines):
        if line.strip() != MARK:
            continue
        if lines[number + 1 : number + 2] != ["```console"]:
            msg = f"line {number + 2}: expected ```console below the mark, got something else"
            raise ValueError(msg)
        end = lines.index("```", number + 2)
        steps.extend(_steps(lines[number + 2 : end], number + 3))
    return tuple(steps)


def _steps(lines: list[str], first: int) -> Iterator[Step]:
    starts = [index for index, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        body = lines[start + 1 : end]
        more = 0
        while more < len(body) and body[more].startswith("> "):
            more += 1
        command = "\n".join(line[2:] for line in (lines[start], *body[:more]))
        expected, status = body[more:], 0
        if expected and (found := _EXIT.fullmatch(expected[-1])):
            expected, status = expected[:-1], int(found[1])
        yield Step(line=first + start, command=command, expected=tuple(expected), status=status)


def matches(expected: tuple[str, ...], printed: tuple[str, ...]) -> bool:
    """Return whether the printed lines are the expected ones, `...` being anything."""
    patterns = [r"(?:.*\n)*" if line == "..." else _pattern(line) + r"\n" for line in expected]
    return re.fullmatch("".join(patterns), "".join(f"{line}\n" for line in printed)) is not None


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("..."))


def run(steps: tuple[Step, ...], directory: Path) -> Iterator[str]:
    """Run the steps in `directory`; yield one text for each that went otherwise than said."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"HOME": str(directory), "COLUMNS": "120", "NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    place, keep = directory / ".place", directory / ".environment"
    place.write_text(str(directory), encoding="utf-8")
    keep.write_text("", encoding="utf-8")
    for step in steps:
        # Each command is a shell of its own; where it went and what it exported go on to the next.
        script = (
            f'cd "$(cat {shlex.quote(str(place))})"; . {shlex.quote(str(keep))}\n{step.command}\n'
            f"status=$?; pwd >{shlex.quote(str(place))}; export -p >{shlex.quote(str(keep))}\n"
            "exit $status"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
        )
        printed = tuple(line.rstrip() for line in done.stdout.splitlines())
        if done.returncode != step.status or not matches(step.expected, printed):
            yield _report(step, printed, done.returncode)


def _report(step: Step, printed: tuple[str, ...], status: int) -> str:
    expected = "\n".join(f"    {line}" for line in step.expected)
    got = "\n".join(f"    {line}" for line in printed)
    return (
        f"line {step.line}: $ {step.command}\n"
        f"  expected exit {step.status} and\n{expected}\n  got exit {status} and\n{got}\n"
    )


def main(arguments: list[str]) -> int:
    """Run the documents' transcripts; return 1 when one is not so."""
    wrong = 0
    for name in arguments:
        path = Path(name)
        if not path.exists():
            sys.stdout.write(f"transcripts: no {name} yet, nothing to run\n")
            continue
        steps = parse(path.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as directory:
            for report in run(steps, Path(directory)):
                sys.stderr.write(report)
                wrong += 1
        sys.stdout.write(f"transcripts: {name}: {len(steps)} commands, {wrong} not as written\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
