# SPDX-License-Identifier: Apache-2.0
"""Signing with the real `ssh-keygen -Y sign`, past its traps.

It reaches plain key files, agents and security keys alike, which is why nothing here ever reads a
private key.  The traps (measured with OpenSSH 9.2):

- over an existing .sig it prompts, and without a terminal it answers no and ends with status 0: so
  the text is signed in a fresh private folder, and the .sig must be there afterwards;
- with DISPLAY set and no askpass program it asks nobody: on a terminal SSH_ASKPASS_REQUIRE=never
  makes it ask there;
- a signature by a certificate (-cert.pub) is one by no key that a trust lists: refused before it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from breakglass.core import bounds
from breakglass.errors import FileUnreadable, InputError, ToolMissing, UsageError
from breakglass.fleet.home import files

PROGRAM = "ssh-keygen"
_TEXT = "command"  # the name under which a security key's prompt may mention what is signed
_MAX_SAID_CHARS = 400


def sign(text: bytes, key: Path, *, namespace: str) -> bytes:
    """Return the armored signature over `text` by the key in the file `key`.

    Args:
        text: the exact bytes.
        key: a private key file, or a public one whose private half an agent holds.
        namespace: what kind of document it is (SSHSIG).

    Raises:
        ToolMissing: there is no ssh-keygen.
        FileUnreadable: there is no such key file.
        UsageError: it is a certificate.
        InputError: ssh-keygen did not sign ("sign-failed").
    """
    program = _program()
    _verify_key_file(key)
    with tempfile.TemporaryDirectory(prefix="breakglass-") as folder:
        document = Path(folder, _TEXT)
        document.write_bytes(text)
        made = Path(folder, f"{_TEXT}.sig")
        command = [program, "-Y", "sign", "-n", namespace, "-f", str(key.absolute()), _TEXT]
        ended = subprocess.run(
            command,
            cwd=folder,
            stdin=None if sys.stdin.isatty() else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if sys.stderr.isatty() else subprocess.PIPE,
            env=_environment(),
            # Without a person at stdin it must fail, not wait at a terminal nobody looks at.
            start_new_session=not sys.stdin.isatty(),
            check=False,
        )
        if ended.returncode != 0 or not made.exists():
            raise _failed(ended)
        return files.read_bounded(made, max_bytes=bounds.MAX_ARMOR_BYTES)


def _program() -> str:
    found = shutil.which(PROGRAM)
    if found is None:
        raise ToolMissing(
            f"expected {PROGRAM} on PATH, got none",
            hint="install the OpenSSH client, 8.1 or newer (openssh-client)",
        )
    return found


def _verify_key_file(key: Path) -> None:
    start = files.read_bounded(key, max_bytes=bounds.MAX_SIGNED_FILE_BYTES)[:64]
    if key.name.endswith("-cert.pub") or b"-cert-v01@openssh.com" in start:
        raise UsageError(
            f"expected a key file, got the certificate {key.name}",
            code="certificate-key",
            hint="sign with the plain key file (or its .pub), not -cert.pub: people's keys count",
        )
    if not start.strip():
        raise FileUnreadable(f"expected a key in {key}, got an empty file")


def _environment() -> dict[str, str]:
    environment = dict(os.environ) | {"LC_ALL": "C"}
    if sys.stdin.isatty():
        environment["SSH_ASKPASS_REQUIRE"] = "never"
    return environment


def _failed(ended: "subprocess.CompletedProcess[bytes]") -> InputError:
    said = (ended.stderr or b"").decode("utf-8", "replace").strip().replace("\r", "")
    last = "; ".join(line.strip() for line in said.splitlines() if line.strip(" @"))
    return InputError(
        f"expected a signature of {PROGRAM}, got status {ended.returncode}"
        + (f": {last[-_MAX_SAID_CHARS:]}" if last else ""),
        code="sign-failed",
        hint="check that the key can be unlocked here; for a .pub file an agent must hold the key",
    )
