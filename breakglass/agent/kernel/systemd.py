# SPDX-License-Identifier: Apache-2.0
"""What systemd is asked and told about the slices of pods, by systemctl.

Rules:

- The program is found at a fixed place, started with a list, an empty environment and a deadline;
  unit names are checked by their whole form first, and follow a "--".
- systemctl speaks to systemd over its private socket, so it works while the system bus is down.
- `set-property --runtime` is the only limit that systemd itself does not take back: it rewrites
  what is written into its files.  It refuses 0.  `revert` is never used: it would also remove what
  kubelet has set.

What this does not do: start, stop or change any unit but in its TasksMax.
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
    """The program, where it is installed.

    Args:
        places: the directories it is looked for in, as in PATH.
    """

    def __init__(self, places: str = _PLACES) -> None:
        self._program = shutil.which("systemctl", path=places)

    def tasks_max(self, name: str) -> str:
        """Return a slice's TasksMax: "infinity" or a number.

        Raises:
            GateFailed: systemd does not say it (gate-unwritable).
        """
        value = self._run("show", "--property=TasksMax", "--value", "--", _pod_slice(name)).strip()
        if not _VALUE.fullmatch(value):
            raise GateFailed(
                f"expected the TasksMax of {name}, got {value[:_MAX_QUOTED_CHARS]!a}",
                code="gate-unwritable",
            )
        return INFINITY if value in _UNLIMITED else value

    def set_tasks_max(self, name: str, value: str) -> None:
        """Set a slice's TasksMax until the slice goes or the machine restarts.

        Raises:
            GateFailed: it cannot be set (gate-unwritable).
        """
        if not _VALUE.fullmatch(value):
            raise GateFailed(
                f"expected a TasksMax, got {value[:_MAX_QUOTED_CHARS]!r}", code="gate-unwritable"
            )
        self._run("set-property", "--runtime", "--", _pod_slice(name), f"TasksMax={value}")

    def reset_failed_scopes(self, name: str) -> int:
        """Reset the failed scopes of containers in one slice, by exact name; return how many.

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
        """Yield those of the scopes that are in the slice; their properties come block by block."""
        text = self._run("show", "--property=Id", "--property=Slice", "--", *scopes)
        for block in text.split("\n\n"):
            shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if shown.get("Slice") == name and shown.get("Id") in scopes:
                yield shown["Id"]

    def _run(self, *arguments: str) -> str:
        if self._program is None:
            raise GateFailed("expected systemctl, got none installed", code="gate-unwritable")
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
            why = "none" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
            raise GateFailed(
                f"expected systemctl {arguments[0]} to answer in {_REPLY_TIMEOUT_S:g} s, got {why}",
                code="gate-unwritable",
            ) from error
        if done.returncode:
            # Told in one printable line: an entry of the log has nothing else.
            said = printable(
                "; ".join(done.stderr.split("\n")).strip("; "), max_chars=_MAX_QUOTED_CHARS
            )
            raise GateFailed(
                f"expected systemctl {arguments[0]} to succeed, got {said or done.returncode}",
                code="gate-unwritable",
            )
        return done.stdout


def _pod_slice(name: str) -> str:
    if not name.endswith(".slice") or hierarchy.pod_uid_of(name) is None:
        raise GateFailed(f"expected a pod's slice, got {name[:256]!r}", code="cgroup-mismatch")
    return name


def _batches(names: list[str]) -> Iterable[list[str]]:
    return (
        names[start : start + _SCOPES_PER_CALL] for start in range(0, len(names), _SCOPES_PER_CALL)
    )
