# SPDX-License-Identifier: Apache-2.0
"""The installed ssh-keygen: the other reader and writer of our signatures, asked as a person would.

Only its exit status is believed: its text repeats what it was given.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

TIMEOUT_S = 60.0
SIGNER = "signer"
_VERSION = re.compile(r"OpenSSH_([0-9]+)\.([0-9]+)")


def why_not() -> str:
    """Return why ssh-keygen cannot be asked here, or ""."""
    if not shutil.which("ssh-keygen"):
        return "ssh-keygen is not installed"
    if version() < (8, 9):
        return "ssh-keygen is older than 8.9, the first with every option used here"
    return ""


def version() -> tuple[int, int]:
    """Return OpenSSH's version, (0, 0) where it is not installed."""
    if not shutil.which("ssh"):
        return 0, 0
    shown = subprocess.run(
        ["ssh", "-V"], capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    match = _VERSION.search(shown.stderr)
    return (int(match[1]), int(match[2])) if match else (0, 0)


class SshKeygen:
    """ssh-keygen in a folder of its own.

    Args:
        folder: where keys, messages and signatures are put.
        provider: the middleware of security keys, or None.
    """

    def __init__(self, folder: Path, provider: Path | None = None) -> None:
        self._folder = folder
        # Nothing of the caller's: no agent, no askpass, no display.
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        if provider:
            self._environment["SSH_SK_PROVIDER"] = str(provider)

    def _run(self, *arguments: str, raw_input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=raw_input,
            capture_output=True,
            env=self._environment,
            cwd=self._folder,
            check=False,
            timeout=TIMEOUT_S,
            start_new_session=True,  # no terminal to ask on
        )

    def make(self, kind: str, *options: str) -> Path:
        """Return a new private key of `kind`, such as "ed25519" or "ecdsa-sk"."""
        path = self._folder / f"key{len(list(self._folder.iterdir()))}"
        done = self._run("-q", "-t", kind, "-N", "", "-C", "a comment", "-f", str(path), *options)
        done.check_returncode()
        return path

    def certify(self, key: Path, authority: Path) -> Path:
        """Return the certificate of `key` that another key signed."""
        certify = ("-q", "-s", str(authority), "-I", "id", "-n", SIGNER, f"{key}.pub")
        self._run(*certify).check_returncode()
        return key.with_name(f"{key.name}-cert.pub")

    def sign(self, key: Path, message: bytes, namespace: str, *options: str) -> bytes:
        """Return the armored signature that ssh-keygen makes; `key` may be a certificate."""
        path = self._folder / "message"
        path.write_bytes(message)
        armor = path.with_name("message.sig")
        armor.unlink(
            missing_ok=True
        )  # with one there, it asks, and without a terminal does nothing
        arguments = ("-Y", "sign", "-n", namespace, "-f", str(key), *options, str(path))
        self._run(*arguments).check_returncode()
        return armor.read_bytes()

    def accepts(self, line: str, armor: bytes, message: bytes, namespace: str) -> bool:
        """Tell whether it takes `armor` for a signature of the key in `line` over `message`."""
        (self._folder / "allowed").write_text(f"{SIGNER} {line}\n")
        (self._folder / "armor").write_bytes(armor)
        who = ("-f", "allowed", "-I", SIGNER, "-n", namespace, "-s", "armor")
        return self._run("-Y", "verify", *who, raw_input=message).returncode == 0

    def fingerprints(self, lines: list[str]) -> set[str]:
        """Return the fingerprints of those public keys that it can read."""
        (self._folder / "keys").write_text("".join(f"{line}\n" for line in lines))
        shown = self._run("-l", "-f", "keys").stdout.decode()
        return {line.split()[1] for line in shown.splitlines()}
