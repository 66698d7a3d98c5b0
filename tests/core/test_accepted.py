# SPDX-License-Identifier: Apache-2.0
"""Read the delivered file back from an entry, and the command from an acceptance."""

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
    """The text is the signed bytes, and the command is parsed from them."""
    assert file_of(ACCEPTED).text == TEXT
    assert len(file_of(ACCEPTED).armors) == 2
    assert command_of(Entry(stamp=STAMP, body=ACCEPTED)) == (ACCEPTED, parse_command(TEXT))


def test_another_entry_has_no_command() -> None:
    """An entry of another kind raises Defect; an entry without a signed file raises Malformed."""
    with pytest.raises(Defect, match="expected an accepted entry, got one of kind stopped"):
        command_of(Entry(stamp=STAMP, body=Stopped(active=0)))
    with pytest.raises(Malformed, match="line feed"):
        command_of(Entry(stamp=STAMP, body=replace(ACCEPTED, file=("no file",))))
