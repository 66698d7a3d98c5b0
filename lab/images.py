# SPDX-License-Identifier: Apache-2.0
"""Make container images from static programs, as an OCI archive, without a registry or compiler.

`PAUSE` holds a sandbox's namespaces; pods run `WORKLOAD`.  Made from busybox, both have the same
layer and differ in their entry point; every other program gets its own image.  `ctr images import`
reads the archive.  The same programs give the same bytes.

`lab.containerd` imports the archive into a runtime; this module does not.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab import LabUnavailable

PAUSE = "localhost/pause:1"
WORKLOAD = "localhost/telemetry:1"
BUSYBOX = Path("/bin/busybox")

APPLETS = ("sh", "sleep", "cat", "echo", "true")
HOLDER = ("/bin/busybox", "sleep", "2147483647")
# The first process of a pid namespace gets TERM only if it has a handler, so both set a trap.
# STUBBORN keeps running and starts one more child for each TERM, which can be seen from outside.
_UNTIL_TERM = 'trap "{action}" TERM; while :; do sleep 3600 & wait $!; done'
OBEDIENT = ("/bin/busybox", "sh", "-c", _UNTIL_TERM.format(action="exit 0"))
STUBBORN = ("/bin/busybox", "sh", "-c", _UNTIL_TERM.format(action=":"))

_OCI = "application/vnd.oci.image."
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_archive(path: Path, busybox: Path = BUSYBOX) -> None:
    """Write both images to `path` as one OCI archive.

    Raises:
        LabUnavailable: there is no static busybox, or no name for this architecture.
    """
    layer = _layer(_static(busybox))
    _write(path, ((PAUSE, HOLDER, layer), (WORKLOAD, OBEDIENT, layer)))


def write_programs(path: Path, programs: Mapping[str, Path]) -> None:
    """Write one image for each static program to `path`: its reference and the program's path."""
    _write(
        path,
        [
            (reference, (f"/{program.name}",), _layer_of(program))
            for reference, program in programs.items()
        ],
    )


def _write(path: Path, images: Iterable[tuple[str, tuple[str, ...], bytes]]) -> None:
    """Write an archive of images, each given as reference, entry point and one layer."""
    blobs: dict[str, bytes] = {}
    manifests = [_image(reference, entry, layer, blobs) for reference, entry, layer in images]
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    files |= {f"blobs/sha256/{digest}": blob for digest, blob in blobs.items()}
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            _add(archive, name, content, mode=0o644)


def _static(busybox: Path) -> bytes:
    try:
        program = busybox.read_bytes()
    except OSError as error:
        msg = f"cannot read {busybox}: {error.strerror} (Debian: install busybox-static)"
        raise LabUnavailable(msg) from error
    # A dynamic program names its loader near its start; the image has no loader to run it.
    if b"/ld-" in program[:4096]:
        msg = f"{busybox} is not a static program (Debian: install busybox-static)"
        raise LabUnavailable(msg)
    return program


def _layer(busybox: bytes) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for directory in ("bin", "tmp", "proc", "sys", "dev", "etc"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, "bin/busybox", busybox, mode=0o755)
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return raw.getvalue()


def _layer_of(program: Path) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        _add(archive, program.name, program.read_bytes(), mode=0o755)
    return raw.getvalue()


def _image(
    reference: str, entry: tuple[str, ...], layer: bytes, blobs: dict[str, bytes]
) -> dict[str, object]:
    """Add one image's blobs to `blobs` and return the image's entry for the index."""
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": list(entry), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + _digest(layer)]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _OCI + "manifest.v1+json",
        "config": _store(json.dumps(config).encode(), "config.v1+json", blobs),
        "layers": [_store(layer, "layer.v1.tar", blobs)],
    }
    row = _store(json.dumps(manifest).encode(), "manifest.v1+json", blobs)
    row["annotations"] = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    row["platform"] = {"architecture": _architecture(), "os": "linux"}
    return row


def _store(blob: bytes, kind: str, blobs: dict[str, bytes]) -> dict[str, object]:
    digest = _digest(blob)
    blobs[digest] = blob
    return {"mediaType": _OCI + kind, "digest": f"sha256:{digest}", "size": len(blob)}


def _architecture() -> str:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        msg = f"no image can be made for the architecture {machine}"
        raise LabUnavailable(msg)
    return _ARCHITECTURES[machine]


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()
