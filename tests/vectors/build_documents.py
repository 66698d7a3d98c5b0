# SPDX-License-Identifier: Apache-2.0
"""Build the vectors of documents: texts that every reader must accept, and texts it must refuse.

Run from the repository's root: `python -m tests.vectors.build_documents [DIRECTORY]`.

Each file has a header of `name: value` lines, an empty line, and then the document's exact bytes:

    document: command or trust
    expect:   sha256 and the digest of the text, or malformed and the stable code
    note:     what it tests
    origin:   how it was made
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.organisation import Organisation, edited, policy

FOLDER = Path(__file__).parent / "documents"
IMAGE = f"sha256:{'1f' * 32}"
ORIGIN = "tests/vectors/build_documents.py, Organisation('ana bo luc')"


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One document; `code` is "" for a valid one."""

    name: str
    document: str
    raw: bytes
    note: str
    code: str = ""

    def render(self) -> bytes:
        """Return the file: the header, an empty line, the document."""
        digest = hashlib.sha256(self.raw).hexdigest()
        expect = f"malformed {self.code}" if self.code else f"sha256 {digest}"
        header = {
            "document": self.document,
            "expect": expect,
            "note": self.note,
            "origin": ORIGIN,
        }
        lines = "".join(f"{name}: {value}\n" for name, value in header.items())
        return lines.encode() + b"\n" + self.raw


def vectors() -> tuple[Vector, ...]:
    """Return every vector, in the order of their names."""
    return tuple(sorted((*_commands(), *_trusts()), key=lambda one: one.name))


def parse_vector(file: bytes) -> tuple[dict[str, str], bytes]:
    """Return the header and the document of a vector file."""
    header, _, raw = file.partition(b"\n\n")
    return dict(line.split(": ", 1) for line in header.decode().splitlines()), raw


def build(folder: Path) -> None:
    """Write every vector into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for vector in vectors():
        (folder / f"{vector.name}.txt").write_bytes(vector.render())


def _command(name: str, raw: bytes, note: str, code: str = "") -> Vector:
    return Vector(name=f"command-{name}", document="command", raw=raw, note=note, code=code)


def _commands() -> Iterator[Vector]:
    org, command = Organisation("ana bo luc"), _command
    good = org.command()
    yield command("good", good, "every node of one cluster")
    drill = org.command(
        mode="drill",
        revision="5d4f8c",
        clusters="prod-a prod-b prod-c prod-d prod-e",
        nodes="web-* db-[01-20]",
        pools="gpu",
        excepted="web-0?",
    )
    yield command("good-drill", drill, "a drill with every kind of target and a cut list")
    yield command("good-dry-run", org.command(mode="dry-run", pools="gpu", nodes=""), "a pool")
    yield from _verbs(org)
    yield command("not-json", b"STOP everything\n", "no document at all", "malformed")
    yield command("empty", b"", "nothing", "malformed")
    yield command("list", b"[]\n", "not an object", "malformed")
    yield command("crlf", good.replace(b"\n", b"\r\n"), "line ends of mail", "malformed")
    yield command("bom", b"\xef\xbb\xbf" + good, "a byte order mark", "malformed")
    yield command("trailing-line", good + b"\n", "one line feed too many", "not-canonical")
    yield command("no-last-line-feed", good[:-1], "one line feed too few", "not-canonical")
    yield command("trailing-object", good + good, "two documents in one", "malformed")
    yield command("tabs", good.replace(b"  ", b"\t"), "another indent", "malformed")
    escaped = good.replace(b"telemetry floods", b"\\u0074elemetry floods")
    yield command("escaped", escaped, "the same text in another spelling", "not-canonical")
    hidden = good.replace(b"telemetry floods", b"telemetry\\u202e floods")
    yield command("hidden", hidden, "an escape that turns the writing around", "malformed")
    floating = good.replace(b'"max_nodes": 3', b'"max_nodes": 3.0')
    yield command("float", floating, "a number that is not an integer", "malformed")
    twice = good.replace(b'  "mode"', b'  "domain": "example",\n  "mode"')
    yield command("duplicate-key", twice, "a key given twice", "duplicate-key")
    extra = edited(good, "action.force", 1)
    yield command("unknown-key", extra, "a key that nobody knows", "unknown-key")
    missing = good.replace(b'  "mode": "execute",\n', b"")
    yield command("missing-key", missing, "no mode", "missing-key")
    swapped = good.replace(b'  "mode": "execute",\n', b"").replace(
        b'  "created"', b'  "mode": "execute",\n  "created"'
    )
    yield command("key-order", swapped, "keys in another order", "not-canonical")
    lying = good.replace(b"at most 3 nodes", b"at most 1 node")
    yield command("summary", lying, "a summary that says less", "summary-mismatch")
    wrong = edited(good, "type", "breakglass-trust-v1")
    yield command("type", wrong, "another type's name", "wrong-type")
    unheard = edited(good, "action.verb", "explode")
    yield command("verb", unheard, "a verb that there is not", "malformed")
    nowhere = edited(good, "targets.nodes", [])
    yield command("empty-target", nowhere, "neither nodes nor pools", "empty-target")
    no_cluster = edited(good, "targets.clusters", [])
    yield command("no-cluster", no_cluster, "no cluster named", "empty-target")
    wild = edited(good, "targets.clusters", ["*"])
    yield command("wild-cluster", wild, "clusters are named exactly", "malformed")
    long = edited(good, "not_after", "2026-11-22T04:00:01Z")
    yield command("long-window", long, "valid for more than a day", "malformed")
    late = edited(good, "not_after", "2026-11-21T03:59:59Z")
    yield command("backwards", late, "ends before it begins", "malformed")
    spelled = edited(good, "action.grace", "60s")
    yield command("duration", spelled, "a minute not written as 1m", "malformed")
    upper = edited(good, "id", "019AA1F3-0000-7000-8000-000000000000")
    yield command("id", upper, "an id in capitals", "malformed")


def _verbs(org: Organisation) -> Iterator[Vector]:
    """Yield a valid command of each verb, and commands with fields of other verbs."""
    held = org.command(hold_s=7200, image=IMAGE)
    named = held.split(b'"id": "')[1][:36].decode()
    yield _command("good-hold", held, "a stop that holds, of one image")
    evict = org.command(verb="evict", hold_s=3600, revision="5d4f8c")
    yield _command("good-evict", evict, "an evict that holds one revision")
    release = org.command(verb="release")
    yield _command("good-release", release, "every hold of a workload ends")
    ended = org.command(verb="release", holds_of=named)
    yield _command("good-release-one", ended, "the hold of one command ends")
    extend = org.command(verb="extend", hold_s=14_400, holds_of=named)
    yield _command("good-extend", extend, "the hold of one command lasts longer")
    tagged = edited(held, "action.image", "telemetry:1.2")
    yield _command("image-tag", tagged, "an image by its tag, which can be moved", "malformed")
    capitals = edited(held, "action.image", IMAGE.upper())
    yield _command("image-capitals", capitals, "a digest in capitals", "malformed")
    turned = edited(held, "action.verb", "release")
    yield _command("release-as-stop", turned, "a release with a stop's fields", "missing-key")
    timed = edited(release, "action.hold", "2h")
    yield _command("release-hold", timed, "a release with a hold", "unknown-key")
    graced = edited(extend, "action.grace", "30s")
    yield _command("extend-grace", graced, "an extend with a grace", "unknown-key")
    nothing = edited(extend, "action.hold", "0s")
    yield _command("extend-by-nothing", nothing, "a hold extended by no time", "malformed")
    incident = edited(release, "action.command", "INC-1211")
    yield _command("release-id", incident, "a hold not named by a command's id", "malformed")
    week = edited(held, "action.hold", "169h")
    yield _command("long-hold", week, "a hold beyond every policy", "malformed")


def _trusts() -> Iterator[Vector]:
    org = Organisation("ana bo luc")
    good = org.trust_text

    def trust(name: str, raw: bytes, note: str, code: str = "") -> Vector:
        return Vector(name=f"trust-{name}", document="trust", raw=raw, note=note, code=code)

    yield trust("good", good, "three people, of whom any two stop things")
    strict = policy(
        "system", clusters="prod-*", namespaces="kube-system", quorum={"sre": 1, "owners": 1}
    )
    grouped = Organisation(
        "ana bo luc",
        groups={"sre": "ana bo", "owners": "luc"},
        policies=(strict, policy()),
        couriers={"bastion-1": "ab" * 32},
    )
    yield trust("good-groups", grouped.trust_text, "two groups, two policies and a courier")
    yield trust("trailing-line", good + b"\n", "one line feed too many", "not-canonical")
    second = edited(good, "people.1.keys.0.key", org.keys["ana"][0].line)
    yield trust("shared-key", second, "one key for two people", "trust-shared-key")
    named = edited(good, "people.1.name", "ana")
    yield trust("same-name", named, "two people of one name", "trust-duplicate-name")
    alone = edited(good, "policies.0.quorum.0.approvals", 1)
    yield trust("alone", alone, "one person stops pods", "trust-small-quorum")
    many = edited(good, "policies.0.quorum.0.approvals", 4)
    yield trust("unreachable", many, "four of three people", "trust-unreachable-quorum")
    nobody = edited(good, "policies.0.quorum.0.group", "sre")
    yield trust("unknown-group", nobody, "a group without people", "trust-unknown-group")
    both = edited(grouped.trust_text, "people.0.groups", ["people", "sre", "owners"])
    yield trust("overlap", both, "one person in two groups", "trust-overlapping-groups")
    asked = edited(good, "people.0.keys.0.verify_required", value=True)
    yield trust("verify", asked, "a plain key cannot verify anybody", "trust-verify-required")
    later = edited(good, "version", 2)
    yield trust("version", later, "version 2 with no predecessor", "trust-first-version")
    lapsing = edited(good, "expires", "2027-01-01T00:00:00Z")
    yield trust("expires", lapsing, "a trust does not expire", "unknown-key")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
