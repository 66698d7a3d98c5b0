# SPDX-License-Identifier: Apache-2.0
"""Run the commands of a page and compare their output: `python -m tools.readme_transcripts FILE`.

Each fenced block marked `console` has commands after "$ " and the output that they must print, on
stdout and stderr together; a line "..." stands for any lines.  All blocks of a page run in one
shell, in order, in an empty folder with the environment's programs first on PATH.  A command that
fails is an error, unless the page shows how to continue (`|| echo`).
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "--- end of command {} with status "
STEP_S = 120


def commands(page: str) -> list[tuple[str, list[str]]]:
    """Return each command of a page with the lines that it must print."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(page):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
    return found


def fits(expected: list[str], got: list[str]) -> bool:
    """Return whether lines match the expected ones, in which "..." stands for any lines."""
    if not expected:
        return not got
    if expected[0] == "...":
        return any(fits(expected[1:], got[place:]) for place in range(len(got) + 1))
    return bool(got) and got[0] == expected[0] and fits(expected[1:], got[1:])


def run(shown: list[tuple[str, list[str]]], folder: str) -> str:
    """Run the commands in one shell; return all output, with a mark after each command."""
    script = "exec 2>&1 </dev/null\n" + "".join(
        f"{command}\necho '{MARK.format(number)}'$?\n" for number, (command, _) in enumerate(shown)
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": folder, "NO_COLOR": "1", "COLUMNS": "120"}
    environment.pop("BREAKGLASS_HOME", None)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=STEP_S,
        check=False,
    )
    return done.stdout


def main(page: Path) -> int:
    """Run a page's commands; print each whose output differs and return 1, or return 0."""
    shown = commands(page.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="bg-readme-") as folder:
        rest = run(shown, folder)
    wrong = 0
    for number, (command, expected) in enumerate(shown):
        got, _, rest = rest.partition(MARK.format(number))
        status, _, rest = rest.partition("\n")
        if status != "0" or not fits(expected, got.splitlines()):
            wrong += 1
            print(f"{page}: output differs (status {status or 'none'}): $ {command}\n{got}")
    print(f"{page}: {len(shown)} commands run, {wrong} with other output than shown")
    return int(bool(wrong) or not shown)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
