# SPDX-License-Identifier: Apache-2.0
"""Build the vectors of the log: trees and proofs, and signed notes and checkpoints.

Run from the repository's root: `python -m tests.vectors.build_log [DIRECTORY]`.

Each file has a header of `name: value` lines, an empty line, and a body.

`merkle/`: `expect` is `good` or `bad-proof`, `kind` is `leaf`, `root`, `inclusion`, `consistency`;
the body is `name: value` lines, hashes and leaves in hex (one `leaf:` or `hash:` line for each).
`checkpoint/`: `expect` is `text` and the SHA-256 of the note's text, `checkpoint` with size and
root, `malformed`, or `bad-signature` and the stable code; `key` is the log key; the body is the
note's exact bytes.

The hashes of the tree over the eight known leaves are not computed: they are the published ones.
"""

import base64
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from breakglass.core.checkpoint import Checkpoint, LogSigner, sign_checkpoint

FOLDER = Path(__file__).parent
MERKLE_ORIGIN = "transparency-dev/merkle, testonly/constants.go (from RFC 6962's reference code)"
HASHER_ORIGIN = "transparency-dev/merkle, rfc6962/rfc6962_test.go"
NOTE_ORIGIN = "golang.org/x/mod, sumdb/note, the example of its documentation"
OWN_ORIGIN = "tests/vectors/build_log.py, seed 000102...1f"

LEAVES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
# NODES[height][index]: the complete subtrees over the leaves above.
NODES = (
    (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
        "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "4271a26be0d8a84f0bd54c8c302e7cb3a3b5d1fa6780a40bcce2873477dab658",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "46f6ffadd3d06a09ff3c5860d2755c8b9819db7df44251788c7d8e3180de8eb1",
    ),
    (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    ),
    (
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
)
# The published hashes of each proof, by height and index (RFC 9162, 2.1.3 and 2.1.4).
INCLUSION = {
    (0, 1): (),
    (0, 8): ((0, 1), (1, 1), (2, 1)),
    (1, 5): ((0, 0), (1, 1), (0, 4)),
    (2, 3): ((1, 0),),
    (4, 5): ((2, 0),),
    (5, 8): ((0, 4), (1, 3), (2, 0)),
    (6, 7): ((1, 2), (2, 0)),
}
CONSISTENCY = {
    (0, 8): (),
    (1, 1): (),
    (1, 8): ((0, 1), (1, 1), (2, 1)),
    (2, 5): ((1, 1), (0, 4)),
    (4, 8): ((2, 1),),
    (6, 8): ((1, 2), (1, 3), (2, 0)),
    (6, 7): ((1, 2), (0, 6), (2, 0)),
}
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n\n"
    "\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfq"
    "dngotpRZb6KE6RyyBwJnAM=\n"
).encode()


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One file below `FOLDER`, by its path."""

    path: str
    header: tuple[tuple[str, str], ...]
    body: bytes

    def render(self) -> bytes:
        """Return the file: the header, an empty line, the body."""
        return (
            "".join(f"{name}: {value}\n" for name, value in self.header).encode()
            + b"\n"
            + self.body
        )


def vectors() -> tuple[Vector, ...]:
    """Return every vector, in the order of their paths."""
    every = (*_trees(), *_inclusions(), *_consistencies(), *_notes())
    return tuple(sorted(every, key=lambda one: one.path))


def parse_vector(file: bytes) -> tuple[dict[str, str], bytes]:
    """Return the header and the body of a vector file."""
    header, _, body = file.partition(b"\n\n")
    return dict(line.split(": ", 1) for line in header.decode().splitlines()), body


def parse_body(body: bytes) -> dict[str, list[str]]:
    """Return the values in a body of `name: value` lines, in order, by name."""
    found: dict[str, list[str]] = {"leaf": [], "hash": []}
    for line in body.decode().splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name, []).append(value.strip())
    return found


def build(folder: Path) -> None:
    """Write every vector below `folder`."""
    for vector in vectors():
        path = folder / vector.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(vector.render())


def _merkle(  # one line of a body for each argument
    name: str, kind: str, lines: list[tuple[str, str]], *, note: str, expect: str, origin: str
) -> Vector:
    header = (("kind", kind), ("expect", expect), ("note", note), ("origin", origin))
    body = "".join(f"{key}: {value}".rstrip() + "\n" for key, value in lines)
    return Vector(path=f"merkle/{name}.txt", header=header, body=body.encode())


def _trees() -> Iterator[Vector]:
    for name, data, digest in (
        ("empty", "", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (
            "l123456",
            b"L123456".hex(),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56",
        ),
    ):
        yield _merkle(
            f"leaf-{name}",
            "leaf",
            [("leaf", data), ("root", digest)],
            note="the hash of one leaf",
            expect="good",
            origin=HASHER_ORIGIN,
        )
    for size, root in enumerate(ROOTS):
        yield _merkle(
            f"root-{size}",
            "root",
            [*(("leaf", leaf) for leaf in LEAVES[:size]), ("root", root)],
            note=f"the root over the first {size} known leaves",
            expect="good",
            origin=MERKLE_ORIGIN,
        )


def _hashes(places: tuple[tuple[int, int], ...]) -> list[tuple[str, str]]:
    return [("hash", NODES[height][index]) for height, index in places]


def _damaged(proof: list[tuple[str, str]]) -> Iterator[tuple[str, list[tuple[str, str]], str]]:
    """Yield damaged copies of a proof: a name, the proof, and what was changed."""
    first = proof[0][1]
    yield "short", proof[:-1], "the last hash is missing"
    yield "long", [*proof, ("hash", first)], "a hash too many"
    yield "flipped", [("hash", f"{int(first, 16) ^ 1:064x}"), *proof[1:]], "one bit is changed"
    yield "cut", [("hash", first[:-2]), *proof[1:]], "a hash of 31 bytes"


def _inclusions() -> Iterator[Vector]:
    for (index, size), places in INCLUSION.items():
        name = f"inclusion-{index}-of-{size}"
        claim = [("size", str(size)), ("root", ROOTS[size]), ("leaf-hash", NODES[0][index])]
        proof = _hashes(places)
        place = [("index", str(index))]
        yield _merkle(
            name,
            "inclusion",
            [*place, *claim, *proof],
            note="a proof of published hashes",
            expect="good",
            origin=MERKLE_ORIGIN,
        )
        wrong = (
            [(f"{name}-{what}", place, bad, note) for what, bad, note in _damaged(proof)]
            if proof
            else []
        )
        wrong.append(
            (f"{name}-other-index", [("index", str(size))], proof, "an index beyond the tree")
        )
        for bad_name, bad_place, bad, note in wrong:
            yield _merkle(
                bad_name,
                "inclusion",
                [*bad_place, *claim, *bad],
                note=note,
                expect="bad-proof",
                origin=f"{MERKLE_ORIGIN}, changed",
            )


def _consistencies() -> Iterator[Vector]:
    for (old, new), places in CONSISTENCY.items():
        name = f"consistency-{old}-{new}"
        sizes = [("old", str(old)), ("new", str(new))]
        roots = [("old-root", ROOTS[old]), ("root", ROOTS[new])]
        proof = _hashes(places)
        yield _merkle(
            name,
            "consistency",
            [*sizes, *roots, *proof],
            note="a proof of published hashes",
            expect="good",
            origin=MERKLE_ORIGIN,
        )
        wrong = (
            [(f"{name}-{what}", roots, bad, note) for what, bad, note in _damaged(proof)]
            if proof
            else []
        )
        other = [("old-root", ROOTS[3]), ("root", ROOTS[new])]
        wrong.append((f"{name}-other-root", other, proof, "the old tree was another one"))
        for bad_name, bad_roots, bad, note in wrong:
            yield _merkle(
                bad_name,
                "consistency",
                [*sizes, *bad_roots, *bad],
                note=note,
                expect="bad-proof",
                origin=f"{MERKLE_ORIGIN}, changed",
            )


def _note(
    name: str, key: str, body: bytes, expect: str, note: str, origin: str = OWN_ORIGIN
) -> Vector:
    header = (("key", key), ("expect", expect), ("note", note), ("origin", origin))
    return Vector(path=f"checkpoint/{name}.txt", header=header, body=body)


def _notes() -> Iterator[Vector]:
    text = GO_NOTE.partition(b"\n\n")[0] + b"\n"
    digest = hashlib.sha256(text).hexdigest()
    yield _note(
        "note-go", GO_KEY, GO_NOTE, f"text {digest}", "a note that is no checkpoint", NOTE_ORIGIN
    )
    changed = GO_NOTE.replace(b"your problem is", b"my problem is")
    yield _note(
        "note-go-changed",
        GO_KEY,
        changed,
        "bad-signature note-invalid",
        "the text is changed",
        f"{NOTE_ORIGIN}, changed",
    )
    yield from _checkpoints()


def _checkpoints() -> Iterator[Vector]:
    origin = "breakglass/example/prod-a/n1"
    signer = LogSigner(origin, bytes(range(32)))
    other = LogSigner("breakglass/example/prod-a/n2", bytes(range(1, 33)))
    impostor = LogSigner(origin, bytes(range(2, 34)))
    root = bytes.fromhex(ROOTS[8])
    good = sign_checkpoint(Checkpoint(origin=origin, size=8, root=root), signer)
    empty = sign_checkpoint(Checkpoint(origin=origin, size=0, root=bytes.fromhex(ROOTS[0])), signer)
    line = other.sign(good.partition(b"\n\n")[0] + b"\n").rpartition(b"\n\n")[2]
    encoded = base64.b64encode(root)

    def signed(*lines: bytes) -> bytes:
        return signer.sign(b"".join(one + b"\n" for one in lines))

    name = origin.encode()
    seen = f"checkpoint 8 {ROOTS[8]}"
    bad, ours = "malformed", "bad-signature "
    rows = (
        ("good", good, seen, "the checkpoint of the eight known leaves"),
        ("good-empty", empty, f"checkpoint 0 {ROOTS[0]}", "an empty log"),
        ("good-two-signatures", good + line, seen, "a witness signed too; its key is unknown"),
        (
            "unsigned",
            impostor.sign(good.partition(b"\n\n")[0] + b"\n"),
            ours + "note-unsigned",
            "another key of the same name",
        ),
        (
            "changed-size",
            good.replace(b"\n8\n", b"\n9\n"),
            ours + "note-invalid",
            "the size is changed",
        ),
        (
            "other-origin",
            signed(other.origin.encode(), b"8", encoded),
            ours + "note-origin",
            "the checkpoint of another log",
        ),
        ("leading-zero", signed(name, b"08", encoded), bad, "a second spelling of the size"),
        ("negative", signed(name, b"-8", encoded), bad, "a size below zero"),
        ("extension", signed(name, b"8", encoded, b"more"), bad, "an extension line"),
        ("two-lines", signed(name, b"8"), bad, "no root"),
        ("short-root", signed(name, b"8", encoded[:40]), bad, "a root of 30 bytes"),
        (
            "loose-base64",
            signed(name, b"8", encoded[:-2] + b"h="),
            bad,
            "a second spelling of the root",
        ),
        ("crlf", good.replace(b"\n", b"\r\n"), bad, "line ends of another system"),
        ("no-last-line-feed", good[:-1], bad, "the last line does not end"),
        ("no-signature", good.partition(b"\n\n")[0] + b"\n", bad, "only the text"),
        (
            "hyphen",
            good.replace("\N{EM DASH}".encode(), b"-"),
            bad,
            "a hyphen in place of the dash",
        ),
        ("trailing-text", good + b"\nmore\n", bad, "text after the signature lines"),
        ("not-utf8", b"\xff" + good, bad, "bytes that are no UTF-8"),
    )
    for title, body, expect, note in rows:
        yield _note(title, signer.vkey, body, expect, note)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
