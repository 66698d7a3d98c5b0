# SPDX-License-Identifier: Apache-2.0
"""The signature vectors, verified by the installed ssh-keygen."""

import json
from pathlib import Path

import pytest

from tests.support import openssh
from tests.support.openssh import SshKeygen
from tests.vectors.build_sshsig import FOLDER, NAMESPACE, parse_vector

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(openssh.why_not()), reason=openssh.why_not() or "it is there"),
]

VECTORS = {file.stem: parse_vector(file.read_bytes()) for file in sorted(FOLDER.glob("*.txt"))}


@pytest.mark.parametrize(
    "name", [name for name, (header, _) in VECTORS.items() if header["vector"] == "signature"]
)
def test_ssh_keygen_says_what_the_vector_says(tmp_path: Path, name: str) -> None:
    """It accepts every signature that we accept, and the others as their vector says."""
    header, armor = VECTORS[name]
    message = json.loads(header["message"]).encode()
    accepts = SshKeygen(tmp_path).accepts(header["key"], armor, message, NAMESPACE)

    assert header["openssh"] == "differs" or accepts == (header["openssh"] == "accepts")
    assert accepts or header["expect"] != "accepted"
