# SPDX-License-Identifier: Apache-2.0
"""Every entry that is written parses again: one that does not would fail every later start."""

import asyncio
from pathlib import Path

import pytest

from breakglass.agent.clock import SystemClock
from breakglass.agent.kernel.systemd import Systemctl
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.core.bounds import MAX_ENTRY_BYTES
from breakglass.core.checkpoint import LogSigner
from breakglass.core.entries import Repaired
from breakglass.errors import GateFailed, StateUnwritable

SIGNER = LogSigner("breakglass/example/prod-a/n1", bytes(32))


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", "\u00e4", "x" * MAX_ENTRY_BYTES])
async def test_text_that_no_entry_may_have_is_not_written(tmp_path: Path, text: str) -> None:
    """The entry is refused; the log is unchanged, takes more entries and opens again."""
    log = AuditLog.open(tmp_path / "log", SIGNER)
    journal = Journal(log, SystemClock())
    with pytest.raises(StateUnwritable) as refused:
        await journal.record(Repaired(segment=text, offset=0, size=0, copy=""))
    assert refused.value.stable_code == "entry-unreadable"
    await journal.record(Repaired(segment="0.segment", offset=0, size=0, copy=""))
    log.close()
    again = AuditLog.open(tmp_path / "log", SIGNER)
    assert Journal(again, SystemClock()).state.size == journal.state.size == 1
    again.close()


def test_an_error_of_systemctl_is_quoted_in_one_printable_line(tmp_path: Path) -> None:
    """The error text of systemctl goes into entries, so it becomes one printable line of ASCII."""
    program = tmp_path / "systemctl"
    said = "Failed to list units: \\303\\244\\n\\033[1mSee the logs\\n"
    program.write_text(f"#!/bin/sh\nprintf '{said}' >&2\nexit 1\n", encoding="ascii")
    program.chmod(0o755)
    with pytest.raises(GateFailed) as failed:
        Systemctl(str(tmp_path)).reset_failed_scopes(f"kubepods-pod{'0' * 32}.slice")
    message = failed.value.message
    assert message.isascii()
    assert message.isprintable()
    assert "Failed to list units: \\xe4; \\x1b[1mSee the logs" in message


async def test_an_entry_is_appended_only_if_the_state_allows_it(tmp_path: Path) -> None:
    """The state is read in the step that appends: two callers cannot both find it allowed."""
    log = AuditLog.open(tmp_path / "log", SIGNER)
    journal = Journal(log, SystemClock())
    repaired = Repaired(segment="0.segment", offset=0, size=0, copy="")
    first, second = await asyncio.gather(  # noqa: TID251 - neither fails
        *(journal.record_if(repaired, lambda state: state.size == 0) for _ in range(2))
    )
    assert (first, second) == (0, None)
    assert journal.state.size == 1
    log.close()
