# SPDX-License-Identifier: Apache-2.0
"""P4 at the level of system calls: an append returns only after its entry is synced to disk."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

APPENDS = 3
PROGRAM = """
import os, sys
from pathlib import Path
from breakglass.agent.log.auditlog import AuditLog
from breakglass.core.checkpoint import LogSigner
log = AuditLog.open(Path(sys.argv[1]), LogSigner("breakglass/example/n1", bytes(32)))
for number in range({appends}):
    os.write(1, b"begin\\n")
    log.append(b"entry %d" % number)
    os.write(1, b"durable\\n")
log.close()
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="not installed: strace")
def test_an_append_is_written_and_then_synced_before_it_returns(tmp_path: Path) -> None:
    """Between call and return strace shows a write into the segment and a sync of that file."""
    trace = tmp_path / "trace"
    calls = "trace=write,pwrite64,fdatasync"
    program = PROGRAM.format(appends=APPENDS)
    strace = ("strace", "-f", "-qq", "-e", calls, "-o", str(trace))
    command = [*strace, sys.executable, "-c", program, str(tmp_path / "log")]
    subprocess.run(command, check=True, capture_output=True)
    between = re.findall(
        r'write\(1, "begin.*?\n(.*?)write\(1, "durable', trace.read_text(), re.DOTALL
    )
    assert len(between) == APPENDS
    for one in between:
        written = re.search(r"pwrite64\((\d+), \"BGF1", one)
        assert written is not None, one
        assert f"fdatasync({written[1]})" in one[written.end() :], one
