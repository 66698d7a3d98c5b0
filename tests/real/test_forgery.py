# SPDX-License-Identifier: Apache-2.0
"""Forged commands and foreign clients against a real agent over mTLS (P2, P8).

The agent refuses each attempt with its own reason code, records it, and touches no pod.
"""

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.core import bounds
from breakglass.core.entries import Accepted, Finished, RefusedEntry, parse_entry
from breakglass.core.merkle import leaf_hash
from breakglass.core.receipt import Receipt, verify_receipt
from breakglass.core.recheck import recheck_log
from breakglass.fleet.home.identity import make_ca, make_courier
from tests.support.agent_process import NOW as TLS_NOW
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.organisation import Organisation, edited, policy
from tests.support.sim_process import SimProcess


class Scene:
    """A node under attack: an organisation, a simulated runtime with pods, and a real agent."""

    def __init__(self, folder: Path) -> None:
        self.tls = Tls.make(couriers="bastion revoked")
        now = datetime.now(UTC).replace(microsecond=0)
        pins = {"bastion": self.tls.pins["bastion"]}  # the trust no longer lists the other one
        self.organisation = Organisation(
            "ana bo luc",
            now=now,
            couriers=pins,
            policies=(policy(requester_may_approve=False, max_nodes=10),),
        )
        self.other = Organisation("ana bo luc", domain="elsewhere", now=now, couriers=pins)
        self.sim = SimProcess(folder / "cri.sock", daemonset="monitoring/telemetry", pods=2)
        self.files = NodeFiles(
            folder=folder, organisation=self.organisation, tls=self.tls, runtime=self.sim.socket
        ).write()
        self.agent = AgentProcess(self.files).wait_ready()

    def command(self, **overrides: object) -> bytes:
        """Return a command's text."""
        return self.organisation.command(**overrides)

    def signed(self, text: bytes, people: str = "ana bo") -> bytes:
        """Return the signed file."""
        return self.organisation.signed(text, people)

    def submit(self, raw: bytes) -> list[pb.Progress]:
        """Deliver over mTLS as the bastion."""
        with self.agent.remote(self.tls.couriers["bastion"]) as client:
            return client.submit(raw)

    def log(self) -> list[object]:
        """Return the bodies of all entries."""
        with self.agent.local() as client:
            return [entry.body for entry in client.entries()]

    def close(self) -> None:
        """End both processes."""
        self.agent.__exit__(None, None, None)
        self.sim.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return one scene for all attempts, because an attacker tries more than once."""
    made = Scene(tmp_path_factory.mktemp("forgery"))
    yield made
    made.close()


def _swapped_lines(raw: bytes) -> bytes:
    """Return the text with two lines swapped, so that its keys have another order."""
    lines = raw.split(b"\n")
    lines[2], lines[3] = lines[3], lines[2]
    return b"\n".join(lines)


def _doubled_line(raw: bytes) -> bytes:
    lines = raw.split(b"\n")
    return b"\n".join([*lines[:4], lines[3], *lines[4:]])


FORGERIES: dict[str, tuple[str, Callable[[Scene], bytes]]] = {
    "too few": ("quorum-short", lambda s: s.signed(s.command(), "ana")),
    "no approval": ("unsigned", lambda s: s.command()),
    "one person, two keys": (
        "same-person",
        lambda s: (
            (t := s.command())
            + s.organisation.approve(t, "ana")
            + s.organisation.approve(t, "ana", key=1)
        ),
    ),
    "a stranger": ("signature-stranger", lambda s: s.signed(s.command(), "ana mallory")),
    "another namespace": (
        "signature-namespace",
        lambda s: (
            (t := s.command())
            + s.organisation.approve(t, "ana")
            + s.organisation.approve(t, "bo", namespace="file")
        ),
    ),
    "a trust's namespace": (
        "signature-namespace",
        lambda s: (
            (t := s.command())
            + s.organisation.approve(t, "ana", namespace="breakglass-trust-v1")
            + s.organisation.approve(t, "bo", namespace="breakglass-trust-v1")
        ),
    ),
    "another domain": ("wrong-domain", lambda s: s.signed(s.command(domain="elsewhere"))),
    "another domain's own": ("wrong-domain", lambda s: s.other.signed(s.other.command(), "ana bo")),
    "another trust": ("wrong-trust", lambda s: s.signed(s.command(trust_sha256="0" * 64))),
    "another cluster": ("wrong-cluster", lambda s: s.signed(s.command(clusters="prod-b"))),
    "another node": ("wrong-node", lambda s: s.signed(s.command(nodes="n2"))),
    "excepted": ("wrong-node", lambda s: s.signed(s.command(excepted="n1"))),
    "expired": (
        "expired",
        lambda s: s.signed(
            s.command(created=s.organisation.now - timedelta(hours=3), valid_s=3600)
        ),
    ),
    "not yet valid": ("not-yet-valid", lambda s: s.signed(s.command(starts_s=7200))),
    "an edited byte": (
        "signature-invalid",
        lambda s: s.signed(s.command()).replace(b"floods", b"fl00ds"),
    ),
    "an edited cap": (
        "signature-invalid",
        lambda s: edited(t := s.command(), "limits.max_pods_per_node", 99) + s.signed(t)[len(t) :],
    ),
    "reordered keys": ("not-canonical", lambda s: s.signed(_swapped_lines(s.command()))),
    "a duplicate key": ("duplicate-key", lambda s: s.signed(_doubled_line(s.command()))),
    "an unknown key": (
        "unknown-key",
        lambda s: s.signed(s.command().replace(b'\n  "mode"', b'\n  "x": 1,\n  "mode"')),
    ),
    "a lying summary": (
        "summary-mismatch",
        lambda s: s.signed(edited(s.command(), "summary", "STOP nothing")),
    ),
    "an empty target": (
        "empty-target",
        lambda s: s.signed(edited(s.command(), "targets.nodes", [])),
    ),
    "a hold beyond the policy": ("hold-too-long", lambda s: s.signed(s.command(hold_s=90_000))),
    "beyond the policy": ("too-many-nodes", lambda s: s.signed(s.command(max_nodes=11))),
    "the requester": ("requester-approved", lambda s: s.signed(s.command(requester="bo"))),
    "a protected workload": (
        "protected",
        lambda s: s.signed(s.command(workload="kube-system/kube-proxy")),
    ),
    "trailing text": ("trailing-text", lambda s: s.signed(s.command()) + b"please\n"),
    "no document": ("malformed", lambda _: b"\x00\xff" * 100),
    "too large": ("too-large", lambda _: b"a" * (bounds.MAX_SIGNED_FILE_BYTES + 1)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_for_its_own_reason_and_recorded(scene: Scene, name: str) -> None:
    """The refusal has the code of this forgery, its receipt verifies, and no pod is touched."""
    code, forge = FORGERIES[name]
    (answer,) = scene.submit(forge(scene))
    assert answer.WhichOneof("step") == "refused"
    assert answer.refused.code == code
    assert answer.refused.needed
    assert answer.refused.have
    assert answer.refused.hint
    sent = answer.refused.receipt
    receipt = Receipt(
        entry=sent.entry, index=sent.index, proof=tuple(sent.proof), checkpoint=sent.checkpoint
    )
    verify_receipt(receipt, scene.files.vkey)
    body = parse_entry(sent.entry).body
    assert isinstance(body, RefusedEntry)
    assert (body.code, body.peer) == (code, "courier bastion")
    assert scene.sim.running() == 2


def test_a_megabyte_is_refused_by_the_transport(scene: Scene) -> None:
    """The gRPC server refuses a message above its bound by the length prefix, without reading."""
    before = _memory_kib(scene.agent.process.pid)
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as caught:
            scene.submit(b"x" * 1024 * 1024)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert _memory_kib(scene.agent.process.pid) < before + 8 * 1024


@pytest.mark.parametrize(
    ("who", "code"),
    [
        ("revoked", "courier-unknown"),
        ("no certificate", "tls-no-certificate"),
        ("foreign", "tls-untrusted"),
    ],
)
def test_a_client_that_is_no_courier_is_refused_and_recorded(
    scene: Scene, who: str, code: str
) -> None:
    """A revoked courier's call is refused; without our CA's certificate the handshake fails."""
    foreign = make_courier(make_ca("example", now=TLS_NOW), "bastion", now=TLS_NOW)
    identity = {
        "revoked": scene.tls.couriers["revoked"],
        "no certificate": None,
        "foreign": foreign,
    }[who]
    with scene.agent.remote(identity) as client, pytest.raises(grpc.RpcError) as caught:
        client.submit(scene.signed(scene.command()))
    wanted = grpc.StatusCode.PERMISSION_DENIED if who == "revoked" else grpc.StatusCode.UNAVAILABLE
    assert caught.value.code() is wanted
    # gRPC reports a failed handshake on stderr shortly after the connection has ended.
    while code not in (body.code for body in scene.log() if isinstance(body, RefusedEntry)):
        scene.agent.wait_for("gRPC wrote to stderr")
    assert scene.sim.running() == 2


def test_a_replay_acts_once_and_another_text_under_its_id_is_an_alarm(tmp_path: Path) -> None:
    """P7: a command delivered again gets its first outcome; other bytes with its id are refused."""
    scene = Scene(tmp_path)
    try:
        text = scene.command()
        first = scene.submit(scene.signed(text))
        assert [one.WhichOneof("step") for one in first] == ["accepted", "pod", "pod", "finished"]
        stops = scene.sim.stops()
        again = scene.submit(scene.signed(text, "bo luc"))
        assert all(one.repeated for one in again)
        assert again[-1].finished.entry == first[-1].finished.entry
        assert scene.sim.stops() == stops
        identity = next(body.id for body in scene.log() if isinstance(body, Accepted))
        (refused,) = scene.submit(scene.signed(scene.command(as_id=identity, reason="another")))
        assert refused.refused.code == "id-reused"
        assert sum(isinstance(body, Finished) for body in scene.log()) == 1
    finally:
        scene.close()


def test_turning_the_clock_back_revives_nothing(tmp_path: Path) -> None:
    """A command that ended before a later accepted one was created is refused by any clock."""
    scene = Scene(tmp_path)
    try:
        old = scene.signed(
            scene.command(created=scene.organisation.now - timedelta(hours=4), valid_s=3600)
        )
        assert scene.submit(old)[0].refused.code == "expired"
        assert scene.submit(scene.signed(scene.command()))[-1].WhichOneof("step") == "finished"
        scene.agent.stop()
        program = ("-m", "tests.support.late_agent", "-14400")
        with (
            AgentProcess(scene.files, program=program).wait_ready() as late,
            late.local() as client,
        ):
            (answer,) = client.submit(old)
            assert answer.refused.code == "ended-before-floor"
            kinds = [entry.kind for entry in client.entries()]
            assert "refused" in kinds
    finally:
        scene.close()


def test_the_whole_log_decides_the_same_again(scene: Scene) -> None:
    """P4: after all attempts, every decision can be verified again from the log alone."""
    with scene.agent.local() as client:
        stub = client.channel.unary_stream(
            "/breakglass.v1.Agent/Entries",
            request_serializer=pb.EntriesRequest.SerializeToString,
            response_deserializer=pb.Entry.FromString,
        )
        raw = [one.entry for one in stub(pb.EntriesRequest())]
    report = recheck_log(raw, trust_sha256=scene.organisation.trust.sha256)
    assert report.findings == ()
    assert len({leaf_hash(one) for one in raw}) == len(raw)


def _memory_kib(pid: int) -> int:
    found = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(found.stdout)
