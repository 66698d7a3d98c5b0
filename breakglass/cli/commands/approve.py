# SPDX-License-Identifier: Apache-2.0
"""`breakglass approve`: show, ask, sign with ssh-keygen, add the signature to the file.

Order: (1) read and show, (2) ask, (3) sign, (4) verify the signature, (5) add it to the file in one
step.  The file does not change before (5); a crash at any point leaves it whole, with the
signature or without it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result, talk
from breakglass.cli.session import Session
from breakglass.errors import BadSignature, InputError, Interrupted, Malformed, UsageError

if TYPE_CHECKING:
    from breakglass.cli.review import Review
    from breakglass.core.signed_file import SignedFile
    from breakglass.core.trust import Trust


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    required=True,
    metavar="KEYFILE",
    help="Your SSH key file, or its .pub if an ssh-agent holds the key.",
)
@click.option("--yes", is_flag=True, help="Do not ask; for scripts that showed the file before.")
@click.pass_obj
def command(session: Session, file: Path, key: Path, *, yes: bool) -> Result:
    """Show a file, ask, and add your approval with ssh-keygen.

    It needs no home: an approver's machine needs only this program, OpenSSH, the key and the file.
    """
    from breakglass.cli import keygen
    from breakglass.cli import review as reviews
    from breakglass.core.command import NAMESPACE

    home = session.home_if_any()
    trust = home.trust() if home else None
    seen = reviews.review(reviews.read_file(file), trust, session.now())  # (1)
    if seen.problem is not None:
        raise seen.problem
    talk(reviews.render(seen))
    _ask(session, seen, yes=yes)  # (2)
    armor = keygen.sign(seen.file.text, key, namespace=NAMESPACE)  # (3)
    person, fingerprint = _verified(seen.file.text, armor, trust)  # (4)
    merged = _add(file, seen.file.text, armor)  # (5)
    after = reviews.review(merged, trust, session.now())
    who = person or f"key {fingerprint}, which no trust on this machine lists"
    return Result(
        text=f"approved by {who}: {len(merged.armors)} signatures in {file}",
        document={
            "file": str(file),
            "person": person,
            "key": fingerprint,
            **reviews.document(after),
        },
        notes=_notes(after, person, trust),
    )


def _ask(session: Session, seen: "Review", *, yes: bool) -> None:
    if yes:
        return
    if not session.is_terminal():
        raise UsageError(
            "expected a terminal to ask on, got none",
            code="no-terminal",
            hint="run it on a terminal, or give --yes if you have read the file elsewhere",
        )
    talk()
    question = f"Is {seen.code} the code that was read to you, and do you approve?"
    if not click.confirm(question, err=True):
        raise Interrupted(
            "the question was answered with no", code="declined", hint="no file was changed"
        )


def _verified(text: bytes, armor: bytes, trust: "Trust | None") -> tuple[str, str]:
    """Return the signer's name ("" if no trust lists the key) and the key's fingerprint.

    Raises:
        InputError: the signature cannot count as an approval.
    """
    from breakglass.core.command import NAMESPACE
    from breakglass.core.decide import Reason, count_people
    from breakglass.core.reasons import HINTS
    from breakglass.core.sshkey import parse_key_blob
    from breakglass.core.sshsig import parse_armor, verify_signature

    signature = parse_armor(armor)
    key = parse_key_blob(signature.key_blob)
    if trust is not None:
        checked = count_people(text, (armor,), trust)
        for approval in checked.approvals:
            return approval.person, approval.fingerprint
        for defect in checked.defects:
            if defect.reason is not Reason.SIGNATURE_STRANGER:
                raise InputError(
                    defect.message, code=defect.reason.value, hint=HINTS[defect.reason]
                )
    try:
        verify_signature(signature, key, text, namespace=NAMESPACE)
    except BadSignature as error:
        raise InputError(
            error.message,
            code=error.stable_code,
            hint="ssh-keygen made a signature that no node accepts; no file was changed",
        ) from error
    return "", key.fingerprint


def _add(file: Path, text: bytes, armor: bytes) -> "SignedFile":
    """Add the signature to the file as it is now, in one step; return the file's new parts."""
    from breakglass.cli.review import MAX_FILE_BYTES
    from breakglass.core.signed_file import (
        SignedFile,
        merge_signed_files,
        parse_signed_file,
        render_signed_file,
        repair,
    )
    from breakglass.fleet.home import files

    made: list[SignedFile] = []

    def with_signature(raw: bytes) -> bytes:
        there = parse_signed_file(repair(raw))
        if there.text != text:
            raise Malformed(
                f"expected the text that was shown in {file}, got another text",
                code="different-text",
                hint="the file was changed after it was shown, and this did not change it; show it"
                " again",
            )
        made.append(merge_signed_files(there, SignedFile(text=text, armors=(armor,))))
        return render_signed_file(made[-1])

    files.change_atomically(file, with_signature, max_bytes=MAX_FILE_BYTES)
    return made[-1]


def _notes(after: "Review", person: str, trust: "Trust | None") -> tuple[str, ...]:
    found = []
    if trust is not None and not person:
        found.append("warning: this home's trust does not list the key: the approval won't count")
    if person and after.command and person == after.command.requester:
        found.append("warning: most policies do not count the requester's own approval")
    if after.missing:
        found.append(f"still missing: any of {', '.join(after.missing)}")
    elif trust is not None and not after.objections:
        found.append("it has every approval it needs")
    return tuple(found)
