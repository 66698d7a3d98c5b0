# SPDX-License-Identifier: Apache-2.0
"""A world for the ladder over each kind of runtime."""

import asyncio

import pytest

from breakglass.sim.profiles import CONTAINERD_1_6, CONTAINERD_2_1, CRIO_1_35
from tests.support.ladder_world import World
from tests.support.virtual_agent import InlineExecutor


@pytest.fixture(autouse=True)
async def inline() -> None:
    """Run at once what goes to a thread, so that virtual time stays exact."""
    asyncio.get_running_loop().set_default_executor(InlineExecutor())


@pytest.fixture(params=[CONTAINERD_1_6, CONTAINERD_2_1, CRIO_1_35], ids=lambda one: one.version)
def world(request: pytest.FixtureRequest) -> World:
    """Return a world with each kind of runtime."""
    return World(request.param)
