# SPDX-License-Identifier: Apache-2.0
"""What a node answers over gRPC becomes values and errors of ours."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from breakglass._pb.breakglass.v1 import agent_pb2 as pb
from breakglass.errors import BreakglassError, NodeError, RefusedError, Unreached
from breakglass.fleet.roads.port import HeldPod, NotOnRecord, Road
from tests.support.scripted_agent import (
    RECEIPT,
    Server,
    asked,
    collected,
)


def test_each_method_carries_its_values() -> None:
    """Every answer arrives as a value of `fleet`, not as a message."""

    async def ask_all(road: Road) -> tuple[Any, ...]:
        entries = [one async for one in road.entries(3)]
        return (
            (await road.describe()).node,
            [pod.daemonset for pod in await road.pods()],
            [(one.command, one.approvals, one.pods) for one in await road.holds()],
            (await road.outcome("x")).finished,
            [one.index for one in entries],
            await road.consistency(1),
        )

    node, daemonsets, holds, finished, indexes, consistency = asyncio.run(asked(Server(), ask_all))
    assert (node, daemonsets, indexes) == ("n1", ["c"], [3, 4])
    assert holds == [("i", ("ana",), (HeldPod(uid="u", name="n", gate="pids", note="why"),))]
    assert (finished.index, finished.proof) == (7, (b"p" * 32,))
    assert consistency == ((b"p",), b"c")


def test_a_delivery_is_told_step_by_step() -> None:
    """Acceptance and refusal, with and without a receipt."""
    refused = pb.Refusal(code="protected", needed="a", have="b", hint="c")
    server = Server(
        progress=[
            pb.Progress(accepted=RECEIPT, repeated=True, node_time="t"),
            pb.Progress(refused=refused),
        ]
    )
    accepted, refusal = asyncio.run(asked(server, collected))
    assert (accepted.kind, accepted.repeated) == ("accepted", True)
    assert accepted.receipt is not None
    assert accepted.receipt.index == 7
    assert refusal.refusal is not None
    assert (refusal.refusal.code, refusal.refusal.receipt) == ("protected", None)


@pytest.mark.parametrize(
    ("status", "details", "kind", "code"),
    [
        ("NOT_FOUND", "none", NotOnRecord, "not-on-record"),
        (
            "PERMISSION_DENIED",
            "courier-unknown: expected a, got b",
            RefusedError,
            "courier-unknown",
        ),
        ("PERMISSION_DENIED", "odd", RefusedError, "turned-away"),
        ("UNAVAILABLE", "runtime-unavailable: expected a, got b", NodeError, "runtime-unavailable"),
        ("UNAVAILABLE", "Socket closed", Unreached, "unreached"),
        ("DEADLINE_EXCEEDED", "Deadline", Unreached, "silent"),
        ("RESOURCE_EXHAUSTED", "too many", NodeError, "busy"),
        ("INTERNAL", "odd", NodeError, "node-error"),
    ],
)
def test_endings_of_a_call_become_errors_of_ours(
    status: str, details: str, kind: type[BreakglassError], code: str
) -> None:
    """Each gRPC error becomes a `BreakglassError`, with the node's own code if it sent one."""
    server = Server(status=(grpc.StatusCode[status], details))
    for question in (lambda road: road.pods(), collected):
        with pytest.raises(kind) as error:
            asyncio.run(asked(server, question))
        assert error.value.stable_code == code


def test_a_node_that_falls_silent_is_not_waited_for() -> None:
    """After the first answer, the next one must come within `silence_s`."""
    server = Server(progress=[pb.Progress(accepted=RECEIPT)], hangs=True)
    with pytest.raises(Unreached) as error:
        asyncio.run(asked(server, lambda road: collected(road, silence_s=0.2)))
    assert error.value.stable_code == "silent"
