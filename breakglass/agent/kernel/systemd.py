# SPDX-License-Identifier: Apache-2.0
"""Read and set TasksMax on the slices of pods, and reset failed scopes, through systemctl.

Rules:

- systemctl is found at a fixed place and started with an argument list, an empty environment and a
  timeout.  The whole form of a unit name is checked first, and names follow a "--".
- systemctl uses systemd's private socket, so it works while the system bus is down.
- `set-property --runtime` sets the only limit that systemd itself does not undo: systemd rewrites
  what another process writes into its files.  It refuses 0.  `revert` is never used: it would also
  remove what kubelet has set.

It starts and stops no unit, and changes nothing else of one.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator

from breakglass.agent.kernel import hierarchy
from breakglass.core.names import printable
from breakglass.errors import GateFailed

INFINITY = "infinity"
_PLACES = "/usr/bin:/bin"
_REPLY_TIMEOUT_S = 2.0  # set-property takes 10-30 ms
_MAX_SCOPES = 1_000
_SCOPES_PER_CALL = 100
_MAX_QUOTED_CHARS = 200
_UNLIMITED = {INFINITY, "18446744073709551615"}
_VALUE = re.compile(r"[1-9][0-9]{0,19}|infinity")
_SCOPE = re.compile(r"(?:cri-containerd|crio)-[0-9a-f]{64}\.scope")


class Systemctl:
    """Runs systemctl where it is installed.

    Args:
        places: the directories to search for it, as in PATH.
    """

    def __init__(self, places: str = _PLACES) -> None:
        self._program = shutil.which("systemctl", path=places)

    def tasks_max(self, name: str) -> str:
        """Return a slice's TasksMax: "infinity" or a number.

        Raises:
            GateFailed: systemd did not give it (gate-unwritable).
        """
        value = self._run("show", "--property=TasksMax", "--value", "--", _pod_slice(name)).strip()
        if not _VALUE.fullmatch(value):
            raise GateFailed(
                f"systemctl returned no TasksMax of {name}: {value[:_MAX_QUOTED_CHARS]!a}",
                code="gate-unwritable",
            )
        return INFINITY if value in _UNLIMITED else value

    def set_tasks_max(self, name: str, value: str) -> None:
        """Set a slice's TasksMax until the slice is removed or the machine restarts.

        Raises:
            GateFailed: it cannot be set (gate-unwritable).
        """
        if not _VALUE.fullmatch(value):
            raise GateFailed(
                f"refused to set TasksMax to {value[:_MAX_QUOTED_CHARS]!r}: not a limit",
                code="gate-unwritable",
            )
        self._run("set-property", "--runtime", "--", _pod_slice(name), f"TasksMax={value}")

    def reset_failed_scopes(self, name: str) -> int:
        """Reset the failed scopes of containers in one slice, by exact name; return their number.

        Raises:
            GateFailed: systemd did not answer (gate-unwritable).
        """
        listing = self._run(
            *("list-units", "--all", "--full", "--state=failed", "--plain", "--no-legend"),
            *("--", "cri-containerd-*.scope", "crio-*.scope"),
        )
        words = (line.split(maxsplit=1)[:1] for line in listing.splitlines())
        scopes = [one for (one,) in filter(None, words) if _SCOPE.fullmatch(one)][:_MAX_SCOPES]
        own = [one for some in _batches(scopes) for one in self._in_slice(some, _pod_slice(name))]
        for some in _batches(own):
            self._run("reset-failed", "--", *some)
        return len(own)

    def _in_slice(self, scopes: list[str], name: str) -> Iterator[str]:
        """Yield those of the scopes that are in the slice; systemctl shows a block for each."""
        text = self._run("show", "--property=Id", "--property=Slice", "--", *scopes)
        for block in text.split("\n\n"):
            shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if shown.get("Slice") == name and shown.get("Id") in scopes:
                yield shown["Id"]

    def _run(self, *arguments: str) -> str:
        if self._program is None:
            raise GateFailed("systemctl is not installed", code="gate-unwritable")
        try:
            done = subprocess.run(
                (self._program, "--no-pager", "--no-ask-password", *arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                env={},
                cwd="/",
                timeout=_REPLY_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            silent = f"no answer within {_REPLY_TIMEOUT_S:g} s"
            why = silent if isinstance(error, subprocess.TimeoutExpired) else error.strerror
            raise GateFailed(
                f"systemctl {arguments[0]} failed: {why}", code="gate-unwritable"
            ) from error
        if done.returncode:
            # Quoted as one printable line: a log entry may have nothing else.
            stderr = "; ".join(done.stderr.split("\n")).strip("; ")
            said = printable(stderr, max_chars=_MAX_QUOTED_CHARS)
            raise GateFailed(
                f"systemctl {arguments[0]} failed: {said or f'exit status {done.returncode}'}",
                code="gate-unwritable",
            )
        return done.stdout


def _pod_slice(name: str) -> str:
    if not name.endswith(".slice") or hierarchy.pod_uid_of(name) is None:
        raise GateFailed(f"refused unit {name[:256]!r}: not a pod's slice", code="cgroup-mismatch")
    return name


def _batches(names: list[str]) -> Iterable[list[str]]:
    return (
        names[start : start + _SCOPES_PER_CALL] for start in range(0, len(names), _SCOPES_PER_CALL)
    )
