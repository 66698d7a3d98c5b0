# SPDX-License-Identifier: Apache-2.0
"""Test vectors of keys and signatures, which other implementations must pass too."""

import json
from pathlib import Path

import pytest

from breakglass.core.sshkey import parse_public_key
from breakglass.core.sshsig import parse_armor, verify_signature
from breakglass.errors import BadSignature, Malformed
from tests.vectors.build_sshsig import FOLDER, NAMESPACE, RECORDED, build, parse_vector

FILES = sorted(FOLDER.glob("*.txt"))


def verdict(header: dict[str, str], raw: bytes) -> str:
    """Return our result for a vector, in the form of its `expect`."""
    try:
        if header["vector"] == "key":
            assert parse_public_key(raw.decode()).line.encode() == raw
            return "accepted"
        verify_signature(
            parse_armor(raw),
            parse_public_key(header["key"]),
            json.loads(header["message"]).encode(),
            namespace=NAMESPACE,
            verify_required=json.loads(header["verify_required"]),
        )
    except Malformed as error:
        return f"malformed {error.stable_code}"
    except BadSignature as error:
        return f"refused {error.stable_code}"
    return "accepted"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_vector_is_accepted_or_refused_as_expected(file: Path) -> None:
    """Good vectors are accepted, and bad ones are refused with the expected code."""
    header, raw = parse_vector(file.read_bytes())

    assert verdict(header, raw) == header["expect"]


def test_the_vectors_are_those_that_the_script_builds(tmp_path: Path) -> None:
    """The committed files are byte for byte the script's output."""
    build(tmp_path)
    built = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    committed = [file for file in FILES if not file.name.startswith(RECORDED)]

    assert {file.name: file.read_bytes() for file in committed} == built


def test_openssh_made_some_of_them() -> None:
    """Some vectors are signatures that ssh-keygen made, one at least of every key type."""
    headers = [
        parse_vector(file.read_bytes())[0] for file in FILES if file.name.startswith(RECORDED)
    ]

    assert len({header["key"].split(" ")[0] for header in headers}) == 7
    assert all("ssh-keygen of OpenSSH" in header["origin"] for header in headers)
