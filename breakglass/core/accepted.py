# SPDX-License-Identifier: Apache-2.0
"""Read the signed file and the command back from a log entry.

The log keeps a delivered file as lines.  Every part of the agent that carries out an accepted
command reads it from the log: there is no other copy.
"""

from breakglass.core.command import Command, parse_command
from breakglass.core.entries import Accepted, Entry, RefusedEntry, from_lines
from breakglass.core.signed_file import SignedFile, parse_signed_file
from breakglass.errors import Defect


def file_of(body: Accepted | RefusedEntry) -> SignedFile:
    """Return the delivered signed file of an entry; raise `Malformed` if it is none."""
    return parse_signed_file(from_lines(body.file))


def command_of(entry: Entry) -> tuple[Accepted, Command]:
    """Return the body and the command of an `Accepted` entry.

    Raises:
        Defect: the entry is of another kind; the caller passed the wrong entry.
        Malformed: the file has no command in it, so `decide` cannot have approved it.
    """
    if not isinstance(entry.body, Accepted):
        raise Defect(f"expected an accepted entry, got one of kind {entry.kind}")
    return entry.body, parse_command(file_of(entry.body).text)
