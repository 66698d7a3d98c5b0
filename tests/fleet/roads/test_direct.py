# SPDX-License-Identifier: Apache-2.0
"""The direct road over real TLS on loopback: whom it connects to, and what is unreached."""

import asyncio
import socket

import pytest

from breakglass.core import bounds
from breakglass.errors import Unreached
from breakglass.fleet.home.identity import make_ca, make_courier
from breakglass.fleet.roads.direct import direct_road
from tests.support.scripted_agent import (
    COURIER,
    N2,
    NOW,
    Server,
    asked,
    collected,
    row,
)


def test_a_certificate_of_the_same_authority_for_another_node_does_not_connect() -> None:
    """The pinned leaf is the only trusted root (adr 0005)."""
    with pytest.raises(Unreached) as error:
        asyncio.run(asked(Server(), lambda road: road.pods(), as_node=N2))
    assert error.value.stable_code == "wrong-identity"


def test_a_courier_of_another_authority_does_not_connect() -> None:
    """The agent ends the handshake; the bastion reports the node as unreached."""
    foreign = make_courier(make_ca("example", now=NOW), "bastion", now=NOW)

    async def ask() -> None:
        async with Server().serving() as port, direct_road(foreign)(row(port)) as road:
            await road.pods()

    with pytest.raises(Unreached):
        asyncio.run(ask())


def test_a_closed_port_is_unreached_at_once() -> None:
    """A refused connection is reported without waiting for a timeout."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def ask() -> None:
        async with direct_road(COURIER)(row(port)) as road:
            await road.pods()

    with pytest.raises(Unreached):
        asyncio.run(ask())


@pytest.mark.slow
def test_a_stopped_machine_is_unreached_within_the_time_out() -> None:
    """A listener that accepts and answers nothing, as a stopped agent does (P5)."""

    async def ask(port: int) -> None:
        async with direct_road(COURIER)(row(port)) as road:
            await collected(road)

    async def timed(port: int) -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unreached):
            await ask(port)
        return asyncio.get_running_loop().time() - began

    with socket.create_server(("127.0.0.1", 0)) as silent:
        took_s = asyncio.run(timed(silent.getsockname()[1]))
    assert took_s < bounds.READ_TIMEOUT_S + bounds.CONNECT_TIMEOUT_S
