# SPDX-License-Identifier: Apache-2.0
"""Give hostile input to every parser: `python -m tools.fuzz --seconds N --seed N`.

The program mutates good inputs (flips bits, cuts, splices, repeats, inserts foreign pieces) and
gives each to its parser.  Every parser must return a value or raise an error that its target names.
The program prints any other exception with the input that caused it, and then exits with 1.
"""

import argparse
import base64
import os
import random
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from breakglass.agent.capture.sources import printable, remotes
from breakglass.agent.pods.inotify import parse_events
from breakglass.core.canonical import parse_object
from breakglass.core.checkpoint import LogSigner, verify_checkpoint
from breakglass.core.command import parse_command
from breakglass.core.decide import decide
from breakglass.core.entries import Entry, Stamp, Stopped, parse_entry, render_entry
from breakglass.core.pod_names import parse_pod_log_name, uid_of_group_name
from breakglass.core.signed_file import parse_signed_file, repair
from breakglass.core.sshkey import parse_key_blob
from breakglass.core.sshsig import parse_armor
from breakglass.core.trust import parse_trust
from breakglass.errors import BadSignature, Malformed
from tests.support.organisation import Organisation

PIECES = (
    b"",
    b"\0",
    b"\n",
    b"{",
    b"}",
    b'"',
    b"\\u0041",
    b"-----BEGIN SSH SIGNATURE-----\n",
    b"9" * 40,
)
MAX_SHOWN = 400


@dataclass(frozen=True, kw_only=True)
class Target:
    """One parser, good inputs for it, and the errors it may raise."""

    name: str
    seeds: tuple[bytes, ...]
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = (Malformed,)


def targets() -> tuple[Target, ...]:
    """Return every parser that an attacker can reach."""
    org = Organisation("ana bo luc")
    text = org.command()
    signed = org.signed(text, "ana bo")
    signer = LogSigner("breakglass/example/prod-a/n1", bytes(32))
    note = signer.sign(b"breakglass/example/prod-a/n1\n1\n" + base64.b64encode(bytes(32)) + b"\n")
    stamp = Stamp(time="2026-11-21T04:05:06.789Z", mono_ms=1, boot="b")
    entry = render_entry(Entry(stamp=stamp, body=Stopped(active=1)))
    armors = tuple(org.approve(text, one) for one in ("ana", "bo", "mallory"))
    blobs = tuple(key.blob for keys in org.keys.values() for key in keys)

    def decided(raw: bytes) -> object:
        file = parse_signed_file(raw)
        return decide(file.text, file.armors, org.trust, org.now, skew_s=300)

    return (
        Target(name="object", seeds=(text,), parse=lambda raw: parse_object(raw, max_bytes=65_536)),
        Target(name="command", seeds=(text,), parse=parse_command),
        Target(name="trust", seeds=(org.trust_text,), parse=parse_trust),
        Target(name="signed file", seeds=(signed,), parse=parse_signed_file),
        Target(
            name="repaired file", seeds=(signed,), parse=lambda raw: parse_signed_file(repair(raw))
        ),
        Target(name="decision", seeds=(signed,), parse=decided),
        Target(name="armor", seeds=armors, parse=parse_armor),
        Target(name="key", seeds=blobs, parse=parse_key_blob),
        Target(name="entry", seeds=(entry,), parse=parse_entry),
        Target(
            name="checkpoint",
            seeds=(note,),
            parse=lambda raw: verify_checkpoint(raw, signer.vkey),
            errors=(Malformed, BadSignature),
        ),
        *kernel_targets(),
    )


def kernel_targets() -> tuple[Target, ...]:
    """Return the parsers of files and names that the kernel, kubelet and containers write."""
    uid = "12345678-1234-4123-8123-123456789abc"
    logs = f"kube-system_telemetry-x2b4z_{uid}".encode()
    groups = (f"pod{uid}", f"kubepods-burstable-pod{uid.replace('-', '_')}.slice")
    name = logs.ljust(80, b"\0")
    event = struct.pack("=iIII", 1, 0x4000_0100, 0, len(name)) + name
    overflow = struct.pack("=iIII", -1, 0x4000, 0, 0)
    rest = b"0CEA 01 00000000:00000000 00:00000000 00000000     0        0 1\n"
    tables = (
        b"   0: 0100007F:0CEA 0A00000A:" + rest,
        b"   1: " + b"0" * 32 + b":0CEA B80D0120000000000000000001000000:" + rest,
    )
    return (
        Target(
            name="pod log folder",
            seeds=(logs,),
            parse=lambda raw: parse_pod_log_name(os.fsdecode(raw)),
            errors=(),
        ),
        Target(
            name="control group",
            seeds=tuple(one.encode() for one in groups),
            parse=lambda raw: uid_of_group_name(os.fsdecode(raw)),
            errors=(),
        ),
        Target(name="inotify events", seeds=(event + overflow + event,), parse=parse_events),
        Target(name="connections", seeds=tables, parse=lambda raw: list(remotes(raw)), errors=()),
        Target(name="log line", seeds=(logs, *tables), parse=printable, errors=()),
    )


def mutant(chance: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """Return a good input with one to four mutations."""
    raw = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(raw) + 1)
        match chance.randrange(5):
            case 0 if raw:
                raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            case 1:
                del raw[place : place + chance.randint(1, 64)]
            case 2:
                raw[place:place] = chance.choice(PIECES)
            case 3:
                other = chance.choice(seeds)
                raw[place:place] = other[: chance.randrange(len(other) + 1)]
            case _:
                raw[place:place] = raw[place : place + chance.randint(1, 64)]
    return bytes(raw)


def main() -> int:
    """Fuzz for `--seconds` and print a summary; return the exit status."""
    parser = argparse.ArgumentParser(description="give hostile input to every parser")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    chance, found = random.Random(chosen.seed), targets()
    end = time.monotonic() + chosen.seconds
    tried = accepted = broken = 0
    while time.monotonic() < end:
        target = found[tried % len(found)]
        raw = mutant(chance, target.seeds)
        tried += 1
        try:
            target.parse(raw)
            accepted += 1
        except target.errors:
            continue
        except Exception as error:  # noqa: BLE001 - any other exception is the defect to report
            broken += 1
            print(f"{target.name}: {type(error).__name__}: {error}: {raw[:MAX_SHOWN]!r}")
    print(
        f"fuzz {'ok' if not broken else 'failed'}: {len(found)} parsers, {tried} inputs,"
        f" {accepted} accepted, {broken} unexpected exceptions, seed {chosen.seed}"
    )
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
