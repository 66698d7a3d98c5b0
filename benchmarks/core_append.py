# SPDX-License-Identifier: Apache-2.0
"""Measure a durable append to the audit log against a bare write.

- `append-durable`: `AuditLog.append` of a 900-byte entry (leaf, root, signed checkpoint, frame, one
  write, one sync) against write and fdatasync of as many bytes to the end of a plain file on the
  same file system.
"""

import os
import tempfile
import time
from pathlib import Path

from benchmarks.rows import Row, compare
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.segments import render_frame
from breakglass.core.checkpoint import LogSigner

APPENDS = 20
ROUNDS = 41
ENTRY = b'{"kind":"pod","note":"' + b"x" * 876 + b'"}'


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Return the row."""
    with tempfile.TemporaryDirectory(prefix="bg-bench-", dir=Path.cwd()) as folder:
        log = AuditLog.open(Path(folder) / "log", LogSigner("breakglass/bench/n1", bytes(32)))
        log.append(ENTRY)
        frame = render_frame(ENTRY, log.checkpoint)
        plain = os.open(Path(folder) / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def ours() -> float:
            begun = time.perf_counter()
            for _ in range(APPENDS):
                log.append(ENTRY)
            return (time.perf_counter() - begun) / APPENDS * 1e6

        def reference() -> float:
            begun = time.perf_counter()
            for _ in range(APPENDS):
                os.write(plain, frame)
                os.fdatasync(plain)
            return (time.perf_counter() - begun) / APPENDS * 1e6

        try:
            return [compare("append-durable", ours, reference, rounds=rounds, unit="us")]
        finally:
            os.close(plain)
            log.close()
