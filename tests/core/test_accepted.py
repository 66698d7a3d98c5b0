# SPDX-License-Identifier: Apache-2.0
"""An entry gives back the file that was delivered, and an acceptance its command."""

from dataclasses import replace

import pytest

from breakglass.core.accepted import command_of, file_of
from breakglass.core.command import parse_command
from breakglass.core.entries import Accepted, Entry, Stamp, Stopped, to_lines
from breakglass.errors import Defect, Malformed
from tests.support.organisation import Organisation

ORG = Organisation("ana bo", quorum=2)
TEXT = ORG.command()
STAMP = Stamp(time="2026-11-21T04:05:06.789Z", mono_ms=1, boot="b")
ACCEPTED = Accepted(
    id="i",
    sha256="s",
    mode="execute",
    summary="",
    created="",
    not_after="",
    skew_s=0,
    policies=(),
    approvals=(),
    peer="local",
    file=to_lines(ORG.signed(TEXT, "ana bo")),
)


def test_an_acceptance_gives_its_file_and_its_command() -> None:
    """The text is the bytes that people signed, and the command is what they say."""
    assert file_of(ACCEPTED).text == TEXT
    assert len(file_of(ACCEPTED).armors) == 2
    assert command_of(Entry(stamp=STAMP, body=ACCEPTED)) == (ACCEPTED, parse_command(TEXT))


def test_another_entry_has_no_command() -> None:
    """Whoever asks one of another kind is wrong; a file that is none is Malformed."""
    with pytest.raises(Defect, match="expected an accepted entry, got one of kind stopped"):
        command_of(Entry(stamp=STAMP, body=Stopped(active=0)))
    with pytest.raises(Malformed, match="line feed"):
        command_of(Entry(stamp=STAMP, body=replace(ACCEPTED, file=("no file",))))
