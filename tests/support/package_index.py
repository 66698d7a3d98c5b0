# SPDX-License-Identifier: Apache-2.0
"""A package index on loopback with tiny wheels, for tests of set-up.

pip's "simple" API (PEP 503) is one page of links for each project, and the listing of a folder is
one.  The wheels hold metadata and no code.
"""

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class PackageIndex:
    """An index of the wheels that `add` made.

    Attributes:
        url: what pip is told as `--index-url`.
        fetched: the file names of the wheels that were downloaded.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.fetched: list[str] = []
        self._folder = folder

    def add(self, name: str, version: str, *metadata: str) -> str:
        """Offer one version of a project, with these lines in its METADATA; return its pin."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        wheel = folder / f"{name}-{version}-py3-none-any.whl"
        write_wheel(wheel, metadata)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


def write_wheel(wheel: Path, metadata: tuple[str, ...]) -> None:
    """Write a wheel without code; its file name says which project and version it is."""
    name, version, *_ = wheel.name.split("-")
    head = ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}")
    files = {
        "METADATA": "\n".join((*head, *metadata, "")),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        record = ""
        for file, text in files.items():
            path = f"{name}-{version}.dist-info/{file}"
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record += f"{path},sha256={digest.decode().rstrip('=')},{len(text)}\n"
        path = f"{name}-{version}.dist-info/RECORD"
        archive.writestr(path, f"{record}{path},,\n")


@contextmanager
def package_index(folder: Path) -> Iterator[PackageIndex]:
    """Serve an empty index, whose files are kept in `folder`."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:  # noqa: ANN401 - the base class's own signature
            if self.path.endswith(".whl"):
                index.fetched.append(self.path.rpartition("/")[2])

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        index = PackageIndex(folder, f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
