# SPDX-License-Identifier: Apache-2.0
"""The real ssh-keygen, and a security key in software for it (`softsk.c`).

ssh-keygen is the oracle of these tests and never part of the program.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("softsk.c")
_HEADER = Path("/usr/include/openssl/evp.h")
_SECONDS = 60
# With no display and no terminal a PIN is read from standard input.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def missing_ssh_keygen() -> str:
    """Return why ssh-keygen cannot be asked, or nothing."""
    return "" if shutil.which("ssh-keygen") else "ssh-keygen is not installed (openssh-client)"


def missing_softsk() -> str:
    """Return why the security key cannot be built, or nothing."""
    if shutil.which("gcc") is None:
        return "gcc is not installed (gcc, libc6-dev)"
    return "" if _HEADER.exists() else f"{_HEADER} is not installed (libssl-dev)"


def build_softsk(folder: Path) -> Path:
    """Compile the provider into `folder` and return it."""
    made = folder / "softsk.so"
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    command = ["gcc", *options, "-o", str(made), str(_SOURCE), "-lcrypto"]
    subprocess.run(command, check=True, timeout=_SECONDS)
    return made


@dataclass(frozen=True, kw_only=True)
class SshKeygen:
    """ssh-keygen in a folder of its own; `provider` is the security key, when there is one."""

    folder: Path
    provider: Path | None = None

    def make_key(self, name: str, kind: str, *options: str) -> str:
        """Make a key and return the text of its `.pub` file."""
        file = self.folder / name
        self._run("-q", "-t", kind, *options, "-N", "", "-C", f"{name} key", "-f", str(file))
        return file.with_name(f"{name}.pub").read_text()

    def write_key(self, name: str, private: bytes) -> None:
        """Write a private key that something else made."""
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_bytes(private)

    def fingerprint(self, name: str) -> str:
        """Return what ssh-keygen says of a key."""
        return self._run("-l", "-f", str(self.folder / f"{name}.pub")).decode()

    def certify(self, name: str, *, authority: str) -> str:
        """Return the text of `NAME-cert.pub`, signed by another key that was made here."""
        keys = str(self.folder / authority), str(self.folder / f"{name}.pub")
        self._run("-q", "-s", keys[0], "-I", name, "-n", name, keys[1])
        return (self.folder / f"{name}-cert.pub").read_text()

    def sign(self, name: str, message: bytes, namespace: str, *options: str) -> bytes:
        """Return the armored signature of a key that was made here, or written here."""
        return self._run(
            "-Y", "sign", "-n", namespace, "-f", str(self.folder / name), *options, message=message
        )

    def sign_file(self, name: str, message: bytes, namespace: str) -> bytes:
        """Sign as `sign` does, but a file: so a PIN can come through standard input."""
        file = self.folder / f"{name}.message"
        signature = file.with_name(f"{file.name}.sig")
        signature.unlink(missing_ok=True)  # where it exists, ssh-keygen asks and leaves it
        file.write_bytes(message)
        key = str(self.folder / name)
        self._run("-Y", "sign", "-n", namespace, "-f", key, str(file), message=b"1234\n")
        return signature.read_bytes()

    def accepts(self, line: str, armor: bytes, message: bytes, namespace: str) -> bool:
        """Whether `ssh-keygen -Y verify` takes the signature as that key's."""
        signers, signature = self.folder / "signers", self.folder / "signature"
        signers.write_text(f"ana {line}\n")
        signature.write_bytes(armor)
        found = self._start(
            *("-Y", "verify", "-I", "ana", "-n", namespace),
            *("-f", str(signers), "-s", str(signature)),
            message=message,
        )
        # 255 is its one answer to every signature that does not hold; anything else is our mistake.
        assert found.returncode in {0, 255}, found.stderr.decode()
        return found.returncode == 0

    def _run(self, *arguments: str, message: bytes = b"") -> bytes:
        found = self._start(*arguments, message=message)
        assert found.returncode == 0, found.stderr.decode()
        return found.stdout

    def _start(self, *arguments: str, message: bytes) -> subprocess.CompletedProcess[bytes]:
        provider = {"SSH_SK_PROVIDER": str(self.provider)} if self.provider else {}
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=message,
            capture_output=True,
            check=False,
            env=_ENVIRONMENT | provider,
            start_new_session=True,
            timeout=_SECONDS,
        )
