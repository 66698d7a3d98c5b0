# SPDX-License-Identifier: Apache-2.0
"""`breakglass merge`: merge the approvals of several files, or bare .sig files, into one file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import BadSignature, Malformed

if TYPE_CHECKING:
    from breakglass.core.signed_file import SignedFile


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.argument(
    "others", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="OTHER..."
)
@click.option(
    "-o",
    "out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The file to write; it may be one of the input files.",
)
@click.pass_obj
def command(session: Session, file: Path, others: tuple[Path, ...], out: Path) -> Result:
    """Merge the approvals of several files into one file.

    Each OTHER is a file with the same text, or a bare .sig that ssh-keygen made over it.
    """
    from breakglass.cli import review as reviews
    from breakglass.core.signed_file import merge_signed_files, render_signed_file
    from breakglass.fleet.home import files

    merged = reviews.read_file(file)
    before = len(merged.armors)
    for other in others:
        merged = merge_signed_files(merged, _parts(other, merged.text))
    home = session.home_if_any()
    seen = reviews.review(merged, home.trust() if home else None, session.now())
    files.write_atomically(out, render_signed_file(merged), mode=files.PUBLIC_FILE)
    count = len(merged.armors)
    return Result(
        text=f"wrote {out}: {count} signatures, {count - before} more than {file}",
        document={"file": str(out), **reviews.document(seen)},
        notes=(f"still missing: any of {', '.join(seen.missing)}",) if seen.missing else (),
    )


def _parts(path: Path, text: bytes) -> "SignedFile":
    """Return the parts of a signed file, or of a bare signature, which must be over `text`."""
    from breakglass.cli.review import read_bytes
    from breakglass.core.signed_file import BEGIN, parse_signed_file, repair

    raw = repair(read_bytes(path))
    if not raw.startswith(BEGIN):
        return parse_signed_file(raw)
    parts = parse_signed_file(text + raw)
    for armor in parts.armors:
        _verify_over(text, armor, path)
    return parts


def _verify_over(text: bytes, armor: bytes, path: Path) -> None:
    from breakglass.core.command import NAMESPACE
    from breakglass.core.sshkey import parse_key_blob
    from breakglass.core.sshsig import parse_armor, verify_signature

    signature = parse_armor(armor)
    try:
        verify_signature(signature, parse_key_blob(signature.key_blob), text, namespace=NAMESPACE)
    except BadSignature as error:
        raise Malformed(
            f"{error.message} in {path}",
            code=error.stable_code,
            hint="sign exactly what `breakglass show --raw FILE` writes; no file was changed",
        ) from error
