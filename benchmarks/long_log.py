# SPDX-License-Identifier: Apache-2.0
"""A long audit log: many commands, each with a hold and a gate from their begin to their end.

One command makes nine entries: accepted (with a real signed file), hold, planned, gate, gated, pod,
finished, and later the hold's end and the lifted gate.  Nothing is left open at the log's end.
"""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.disk import RealDisk
from breakglass.core.checkpoint import LogSigner
from breakglass.core.entries import (
    Accepted,
    ApprovalMade,
    Body,
    Entry,
    Finished,
    Planned,
    PlannedPod,
    PodEnded,
    SeenContainer,
    SeenPod,
    Stamp,
    Started,
    render_entry,
    to_lines,
)
from breakglass.core.hold_entries import (
    GateIntended,
    GateLifted,
    GateLimit,
    GateSeen,
    HoldBegun,
    HoldEnded,
)
from breakglass.core.names import render_id
from tests.support.organisation import Organisation

SIGNER = LogSigner("breakglass/bench/prod-a/n1", bytes(32))
_TIME = "2026-11-21T04:05:06.789Z"
_UNIX_MS = 1_795_233_906_000


class UnsyncedDisk(RealDisk):
    """A disk that promises nothing, on which a long log is made in seconds instead of minutes."""

    def fdatasync(self, handle: int) -> None:
        """Return at once."""

    def fsync(self, handle: int) -> None:
        """Return at once."""


def write_log(directory: Path, entries: int) -> None:
    """Write a log of so many entries."""
    with AuditLog.open(directory, SIGNER, disk=UnsyncedDisk()) as log:
        for raw in itertools.islice(raw_entries(), entries):
            log.append(raw)


def raw_entries() -> Iterator[bytes]:
    """Yield the bytes of entry after entry, without an end."""
    organisation = Organisation("ana bo luc", quorum=2)
    file = to_lines(organisation.signed(organisation.command(hold_s=3_600), "ana bo"))
    numbers = itertools.count(1)
    for body in itertools.chain([_started()], _commands(file)):
        stamp = Stamp(time=_TIME, mono_ms=next(numbers), boot="b" * 36)
        yield render_entry(Entry(stamp=stamp, body=body))


def _started() -> Started:
    return Started(
        version="0.1.0",
        domain="bench",
        cluster="prod-a",
        node="n1",
        pool="",
        trust_version=1,
        trust_sha256="ab" * 32,
    )


def _commands(file: tuple[str, ...]) -> Iterator[Body]:
    for number in itertools.count():
        key = render_id(_UNIX_MS + number, number.to_bytes(10, "big"))
        digest = hashlib.sha256(key.encode()).hexdigest()
        yield _accepted(key, digest, file)
        yield from _life(key, f"{digest[:8]}-0000-4000-8000-{digest[:12]}", digest)


def _accepted(key: str, digest: str, file: tuple[str, ...]) -> Accepted:
    approvals = tuple(
        ApprovalMade(
            person=person, key="SHA256:" + "k" * 43, kind="ssh-ed25519", flags=-1, counter=-1
        )
        for person in ("ana", "bo")
    )
    return Accepted(
        id=key,
        sha256=digest,
        mode="execute",
        summary="STOP monitoring/telemetry, any revision, on every node of prod-a: at most 3 nodes",
        created="2026-11-21T04:00:00Z",
        not_after="2026-11-21T05:00:00Z",
        skew_s=300,
        policies=("all",),
        approvals=approvals,
        peer="local",
        file=file,
    )


def _life(key: str, uid: str, digest: str) -> Iterator[Body]:
    """Yield what follows the acceptance of a command on a node with one pod of the workload."""
    namespace, name = "monitoring", "telemetry-x2b4z"
    yield HoldBegun(
        id=key,
        mode="execute",
        namespace=namespace,
        name="telemetry",
        revision="",
        image="",
        hold_s=3_600,
        until="2026-11-21T05:05:06.789Z",
    )
    yield Planned(
        id=key,
        mode="execute",
        pods=(
            PlannedPod(
                uid=uid,
                namespace=namespace,
                name=name,
                sandbox=digest,
                containers=(digest,),
                gate="descendants",
            ),
        ),
    )
    yield GateIntended(
        uid=uid,
        namespace=namespace,
        name=name,
        hold=key,
        cgroup=f"/kubepods.slice/kubepods-pod{uid}.slice",
        inode=4711,
        oci="runc",
        limits=(
            GateLimit(kind="descendants", place="/sys/fs/cgroup/x", old="max", early=True),
            GateLimit(kind="property", place="x.slice", old="max", early=False),
        ),
    )
    yield GateSeen(uid=uid, gate="descendants", note="")
    yield _pod_ended(key, uid, digest)
    yield Finished(
        id=key,
        mode="execute",
        result="done",
        code="",
        note="",
        pods=1,
        down=1,
        held=1,
        restarted=0,
        ms=412,
        observed=(SeenPod(uid=uid, name=name, seen="down"),),
    )
    yield HoldEnded(id=key, why="expired", by="")
    yield GateLifted(uid=uid, why="released", note="")


def _pod_ended(key: str, uid: str, digest: str) -> PodEnded:
    container = SeenContainer(
        id=digest, name="telemetry", rung=1, seen="down", kernel="gone", ms=388, error=""
    )
    return PodEnded(
        id=key,
        mode="execute",
        uid=uid,
        namespace="monitoring",
        name="telemetry-x2b4z",
        seen="down",
        resumed=False,
        ms=401,
        gate="descendants",
        gate_note="",
        sandbox="",
        evidence=digest,
        evidence_note="",
        containers=(container,),
    )
