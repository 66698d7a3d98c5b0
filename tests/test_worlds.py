# SPDX-License-Identifier: Apache-2.0
"""A test that fails in a simulated world prints that world."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import worlds

ROOT = Path(__file__).parent.parent
SIMULATED = """
from pathlib import Path
import pytest
from tests.agent.stop.conftest import inline
from tests.support.fake_node import FakeNode
from tests.support.held_node import HeldNode
from tests.support.ladder_world import World
from tests.support.organisation import Organisation

async def test_in_the_world(tmp_path: Path) -> None:
    async with HeldNode(tmp_path) as node:
        await node.submit()
        assert node.running() == ["nothing that runs"]

async def test_after_the_world(tmp_path: Path) -> None:
    async with HeldNode(tmp_path) as node:
        await node.submit()
    assert node.running() == ["nothing that runs"]

@pytest.fixture
async def broken(tmp_path: Path) -> None:
    async with HeldNode(tmp_path) as node:
        await node.submit()
        assert node.running() == ["nothing that runs"]

async def test_with_a_broken_fixture(broken: None) -> None:
    pass

async def test_on_the_ladder() -> None:
    world = World()
    (pod,) = await world.run()
    await world.climb(pod)
    assert world.runtime.looks == 7

def test_of_the_bastion() -> None:
    node = FakeNode(organisation=Organisation(), name="n7")
    assert node.acted == 7
"""
NIGHT = """
from collections.abc import Callable
from scenarios.bastion import Bastion
from tests.cli.conftest import *
from tests.cli.night import Night

def test_of_the_night(new_bastion: Callable[[], Bastion]) -> None:
    bastion = new_bastion()
    bastion.init()
    night = Night(bastion)
    try:
        night.add("n1")
        assert bastion.run("run", night.approved(), "--yes").exit == 7
    finally:
        night.close()
"""
HELD_PARTS = ("monitoring/telemetry-", "descendants=0", "  hold ", "  gate ", " Finished(")


def failed(folder: Path, test: str) -> str:
    """Return what pytest prints of failing tests."""
    file = folder / "test_failing.py"
    file.write_text(test)
    options = ("-q", "-c", "pyproject.toml", "-p", "tests.conftest", "-p", "no:randomly")
    done = subprocess.run(
        (sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", str(file)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what pytest prints of the tests in simulated worlds."""
    return failed(tmp_path_factory.mktemp("failing"), SIMULATED)


def test_a_held_node_is_printed(said: str) -> None:
    """Whether the failure is in the node's context, after it, or in a fixture."""
    for part in HELD_PARTS:
        assert said.count(part) >= 3, (part, said)
    assert said.count("the runtime answers, the agent runs") == 2
    assert said.count("the runtime answers, the agent does not run") == 1


def test_the_world_of_the_ladder_is_printed(said: str) -> None:
    """Containers with their signals, and the stops that were asked for."""
    for part in ("default/telemetry-", "CONTAINER_EXITED", "signals ['TERM']", "stops ("):
        assert part in said


def test_a_fake_node_is_printed(said: str) -> None:
    """Its faults and its log."""
    for part in ("fake node n7", "breaks_after", "  0 2026-", " Started("):
        assert part in said


@pytest.mark.slow
def test_the_nodes_of_a_night_are_printed(tmp_path: Path) -> None:
    """After their end their logs are read from the disk."""
    said = failed(tmp_path, NIGHT)
    for part in ("n1: the agent does not run", "the runtime does not answer", " Finished("):
        assert part in said, said


@pytest.fixture
def nothing_shown() -> Iterator[None]:
    """Begin and end without a world."""
    worlds.forget()
    yield
    worlds.forget()


@pytest.mark.usefixtures("nothing_shown")
def test_a_description_is_bounded() -> None:
    """The newest lines and worlds are kept, and the number of the other lines is printed."""
    for number in range(worlds.MAX_WORLDS + 2):
        worlds.show(str(number), lambda: map(str, range(worlds.MAX_LINES + 7)))
    sections = worlds.sections()
    assert [name for name, _ in sections] == [str(2 + place) for place in range(worlds.MAX_WORLDS)]
    lines = sections[0][1].splitlines()
    assert (lines[0], lines[-1]) == ("(7 earlier lines left out)", str(worlds.MAX_LINES + 6))
    assert len(lines) == worlds.MAX_LINES + 1


@pytest.mark.usefixtures("nothing_shown")
def test_a_frozen_world_is_described_once() -> None:
    """What happens to it later is not printed."""
    state = ["before"]
    shown = worlds.show("world", lambda: state)
    shown.freeze()
    state.append("after")
    assert worlds.sections() == [("world", "before")]


@pytest.mark.usefixtures("nothing_shown")
def test_an_error_in_a_description_is_printed_in_its_place() -> None:
    """The failure of the test stays the one that is reported."""

    def describe() -> Iterator[str]:
        yield "a line"
        raise KeyError("of the world")

    worlds.show("world", describe)
    ((_, text),) = worlds.sections()
    assert text.splitlines() == ["a line", "(the description ended: KeyError('of the world'))"]
