# SPDX-License-Identifier: Apache-2.0
"""The table of who may call what, held against the descriptors both ways."""

from dataclasses import dataclass

from breakglass._pb.breakglass.v1 import agent_pb2
from breakglass._pb.health.v1 import health_pb2
from breakglass.agent.serve.handlers import RULES, Needs, handlers
from breakglass.agent.serve.service import Service


@dataclass
class Details:
    """What gRPC tells a handler of a call."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


def described() -> dict[str, bool]:
    """Return every method of both services, and whether it streams its answer."""
    found = {}
    for module in (agent_pb2, health_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                found[f"/{service.full_name}/{method.name}"] = method.server_streaming
    return found


def test_no_method_without_a_rule_and_no_rule_without_a_method() -> None:
    """Every method of the descriptor has a rule, and every rule a method."""
    assert set(RULES) == set(described())
    assert set(RULES.values()) == {Needs.COURIER}


def test_what_is_wired_is_what_is_described() -> None:
    """The registered handlers are the descriptors' methods, streaming where they stream."""
    service = Service.__new__(Service)  # wiring looks at the methods only
    found = handlers(service)

    def streams(path: str) -> bool | None:
        for one in found:
            method = one.service(Details(method=path))
            if method is not None:
                return method.response_streaming
        return None

    wired = {path: streams(path) for path in described()}
    assert wired == described()
