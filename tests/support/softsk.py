# SPDX-License-Identifier: Apache-2.0
"""A security key in software for the real ssh-keygen: builds `softsk.c` where a compiler is."""

import ctypes.util
import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("softsk.c")
_TIMEOUT_S = 60.0
# By its full name, which is there without libssl-dev; the source declares what it calls.
_LIBRARY = "libcrypto.so.3"


def why_not() -> str:
    """Return why the security key cannot be built here, or ""."""
    if not shutil.which("gcc"):
        return "gcc is not installed (Debian: gcc, libc6-dev)"
    if ctypes.util.find_library("crypto") != _LIBRARY:
        return f"{_LIBRARY} is not installed (Debian: libssl3)"
    return ""


def build(folder: Path) -> Path:
    """Return the middleware, compiled into `folder`, for `ssh-keygen -w` and SSH_SK_PROVIDER."""
    made = folder / "softsk.so"
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    command = ["gcc", *options, "-o", str(made), str(_SOURCE), f"-l:{_LIBRARY}"]
    subprocess.run(command, check=True, timeout=_TIMEOUT_S)
    return made
