# SPDX-License-Identifier: Apache-2.0
"""Test vectors of documents, which other implementations must pass too."""

from pathlib import Path

import pytest

from breakglass.core.command import parse_command, render_command
from breakglass.core.trust import parse_trust, render_trust
from breakglass.errors import Malformed
from tests.vectors.build_documents import FOLDER, build, parse_vector, vectors

FILES = sorted(FOLDER.glob("*.txt"))


def read_again(document: str, raw: bytes) -> bytes:
    """Return a document parsed and rendered again."""
    if document == "command":
        return render_command(parse_command(raw))
    return render_trust(parse_trust(raw))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_document_is_taken_or_refused_as_expected(file: Path) -> None:
    """A good document renders to the same bytes; a bad one is refused with its code."""
    header, raw = parse_vector(file.read_bytes())
    if header["expect"].startswith("sha256 "):
        assert read_again(header["document"], raw) == raw
        return
    with pytest.raises(Malformed) as refusal:
        read_again(header["document"], raw)
    assert header["expect"] == f"malformed {refusal.value.stable_code}"


def test_the_vectors_are_those_that_the_script_builds(tmp_path: Path) -> None:
    """The committed files are byte for byte the script's output."""
    build(tmp_path)
    built = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {file.name: file.read_bytes() for file in FILES} == built
    assert len(built) == len(vectors())
