# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the runtimes of `rigs`."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from breakglass.agent.runtime.cri import CriRuntime
from breakglass.sim.profiles import CONTAINERD_1_6, CONTAINERD_2_1, CRIO_1_35
from lab.containerd import Containerd, why_not
from tests.contract.rigs import ContainerdRig, Rig, SimRig

_PROFILES = {"sim-1.6": CONTAINERD_1_6, "sim-2.1": CONTAINERD_2_1, "sim-crio": CRIO_1_35}
REAL = "containerd"


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    """A real containerd that all tests of a module share."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Containerd() as running:
        yield running


@pytest.fixture(params=[*_PROFILES, pytest.param(REAL, marks=pytest.mark.real)])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """One rig for each runtime."""
    if request.param == REAL:
        yield ContainerdRig(request.getfixturevalue("containerd"))
        return
    simulated = SimRig(_PROFILES[request.param], tmp_path / "cri.sock")
    await simulated.start()
    yield simulated
    await simulated.kill()


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[CriRuntime]:
    """The agent's client of the rig's runtime."""
    client = CriRuntime(rig.socket)
    yield client
    await client.close()
