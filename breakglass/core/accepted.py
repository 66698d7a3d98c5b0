# SPDX-License-Identifier: Apache-2.0
"""The signed file and the command that an entry of the log holds.

The log keeps a delivered file as lines, and every part of the agent that acts on an accepted
command reads it from there: nothing is kept beside the log.
"""

from breakglass.core.command import Command, parse_command
from breakglass.core.entries import Accepted, Entry, RefusedEntry, from_lines
from breakglass.core.signed_file import SignedFile, parse_signed_file
from breakglass.errors import Defect


def file_of(body: Accepted | RefusedEntry) -> SignedFile:
    """Return the file that was delivered; raise `Malformed` when it is no signed file."""
    return parse_signed_file(from_lines(body.file))


def command_of(entry: Entry) -> tuple[Accepted, Command]:
    """Return an acceptance and its command.

    Raises:
        Defect: the entry is of another kind: the caller took it for an acceptance.
        Malformed: its file or text is of no command; `decide` would have refused it.
    """
    if not isinstance(entry.body, Accepted):
        raise Defect(f"expected an accepted entry, got one of kind {entry.kind}")
    return entry.body, parse_command(file_of(entry.body).text)
