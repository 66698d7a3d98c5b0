# SPDX-License-Identifier: Apache-2.0
"""Signing with the real `ssh-keygen -Y sign`.

ssh-keygen signs with plain key files, ssh-agents and security keys alike, so breakglass itself
never reads a private key.  Its pitfalls (measured with OpenSSH 9.2):

- If the .sig exists it prompts; without a terminal it answers no and ends with status 0.  So the
  text is signed in a new private folder, and the .sig must be there afterwards.
- With DISPLAY set and no askpass program it does not ask for the passphrase.  On a terminal,
  SSH_ASKPASS_REQUIRE=never makes it ask there.
- It also signs with a certificate (-cert.pub), but a trust lists keys and no certificates, so the
  signature would not count: a certificate is refused before signing.
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
_TEXT = "command"  # the file's name, which the prompt for a security key may show
_MAX_STDERR_CHARS = 400


def sign(text: bytes, key: Path, *, namespace: str) -> bytes:
    """Return the armored signature over `text` by the key in the file `key`.

    Args:
        text: the exact bytes to sign.
        key: a private key file, or a public one whose private key an ssh-agent holds.
        namespace: the SSHSIG namespace, which names the kind of document.

    Raises:
        ToolMissing: ssh-keygen is not on PATH.
        FileUnreadable: the key file cannot be read or is empty.
        UsageError: the key file is a certificate.
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
            # Without a terminal on stdin it must fail, and not prompt on a controlling terminal.
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
            f"cannot find {PROGRAM} on PATH",
            hint="install the OpenSSH client, 8.1 or newer (package openssh-client)",
        )
    return found


def _verify_key_file(key: Path) -> None:
    start = files.read_bounded(key, max_bytes=bounds.MAX_SIGNED_FILE_BYTES)[:64]
    if key.name.endswith("-cert.pub") or b"-cert-v01@openssh.com" in start:
        raise UsageError(
            f"expected a key file, got the certificate {key.name}",
            code="certificate-key",
            hint="sign with the plain key file or its .pub: a trust lists keys, not certificates",
        )
    if not start.strip():
        raise FileUnreadable(f"cannot read a key from {key}: the file is empty")


def _environment() -> dict[str, str]:
    environment = dict(os.environ) | {"LC_ALL": "C"}
    if sys.stdin.isatty():
        environment["SSH_ASKPASS_REQUIRE"] = "never"
    return environment


def _failed(ended: "subprocess.CompletedProcess[bytes]") -> InputError:
    stderr = (ended.stderr or b"").decode("utf-8", "replace").strip().replace("\r", "")
    words = "; ".join(line.strip() for line in stderr.splitlines() if line.strip(" @"))
    return InputError(
        f"{PROGRAM} did not sign: it ended with status {ended.returncode}"
        + (f": {words[-_MAX_STDERR_CHARS:]}" if words else ""),
        code="sign-failed",
        hint="check the key's passphrase; for a .pub file an ssh-agent here must hold the key",
    )
