# SPDX-License-Identifier: Apache-2.0
"""Measure the core against the cryptography that it needs, and the start of `breakglass --help`.

- `decide-3-signatures`: the whole decision on a command with three Ed25519 approvals, against the
  three bare signature verifications with keys loaded before.
- `append-durable`: one entry and its checkpoint on disk, against write and fdatasync of as many
  bytes (see `core_append`).
- `help-start`: `breakglass --help` against `python -c pass`, both as whole processes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks import core_append
from benchmarks.rows import Row, compare
from breakglass.core.command import NAMESPACE
from breakglass.core.decide import Approved, decide
from breakglass.core.signed_file import parse_signed_file
from breakglass.core.sshsig import parse_armor, signed_bytes
from tests.support.organisation import Organisation

DECISIONS = 50
ROUNDS = 21
PEOPLE = "ana bo luc"


def measure() -> Iterator[Row]:
    """Yield the three rows."""
    yield _decide_3_signatures()
    yield from core_append.measure()
    yield _help_start()


def _decide_3_signatures() -> Row:
    organisation = Organisation(PEOPLE, quorum=3)
    text = organisation.command()
    file = parse_signed_file(organisation.signed(text, PEOPLE))
    now = organisation.now + timedelta(seconds=60)

    def ours() -> None:
        verdict = decide(file.text, file.armors, organisation.trust, now, skew_s=300)
        if not isinstance(verdict, Approved):
            msg = f"expected an approved command, got {verdict}"
            raise TypeError(msg)

    pairs = []
    for person, armor in zip(PEOPLE.split(), file.armors, strict=True):
        raw_key = organisation.keys[person][0].blob[-32:]
        pairs.append(
            (Ed25519PublicKey.from_public_bytes(raw_key), parse_armor(armor).raw_signature)
        )
    message = signed_bytes(NAMESPACE, "sha512", text)

    def reference() -> None:
        for key, signature in pairs:
            key.verify(signature, message)

    return compare(
        "decide-3-signatures",
        lambda: _microseconds(ours),
        lambda: _microseconds(reference),
        rounds=ROUNDS,
        unit="us",
    )


def _microseconds(action: Callable[[], None]) -> float:
    """Return the mean microseconds of one run of `action`."""
    begun = time.perf_counter()
    for _ in range(DECISIONS):
        action()
    return (time.perf_counter() - begun) / DECISIONS * 1e6


def _help_start() -> Row:
    return compare(
        "help-start",
        lambda: _whole_process([*_breakglass(), "--help"]),
        lambda: _whole_process([sys.executable, "-c", "pass"]),
        rounds=ROUNDS,
        unit="ms",
    )


def _breakglass() -> list[str]:
    """Return the installed program, or the equivalent `python -c` if it is not installed."""
    installed = Path(sys.executable).with_name("breakglass")
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-c", "from breakglass.cli.start import main; main()"]


def _whole_process(argv: Sequence[str]) -> float:
    """Return the milliseconds from the start of a process to its end."""
    environment = os.environ.copy()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # round 0 compiles, as an installer does
    begun = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment)
    return (time.perf_counter() - begun) * 1e3
