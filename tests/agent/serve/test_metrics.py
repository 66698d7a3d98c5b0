# SPDX-License-Identifier: Apache-2.0
"""The figures: what they say of a held node, and the file that a collector reads."""

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from breakglass.agent.serve.metrics import export_metrics, render_metrics
from breakglass.sim.clock import VirtualClock
from breakglass.sim.kernel import Host
from tests.support.held_node import HeldNode
from tests.support.virtual_agent import NodeClock

LINE = re.compile(r'breakglass_[a-z_]+(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? [0-9.e+]+')


class Counting:
    """Figures that say how often they were asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def metrics_text(self) -> str:
        """Return the number of this call."""
        self.asked += 1
        return f"asked {self.asked}\n"


def text_of(node: HeldNode) -> str:
    """Return a node's figures."""
    assert node.agent is not None
    counters = node.agent.parts.hold.counters
    return render_metrics(
        node.state,
        {hold.id: counters.now(hold) for hold in node.state.active_holds},
        active=0,
        mono_ms=node.agent_clock.monotonic_ms(),
    )


def values(text: str) -> dict[str, float]:
    """Return the sum of each metric over its labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            assert LINE.fullmatch(line), line
            name, value = line.split("{")[0].split(" ")[0], float(line.rsplit(" ", 1)[1])
            found[name] = found.get(name, 0) + value
    return found


async def test_a_hold_is_told_in_figures(tmp_path: Path) -> None:
    """What is held, for how long yet, by which gate, and what keeping it came to."""
    async with HeldNode(tmp_path, Host(systemd=True), pods=2) as node:
        assert values(text_of(node))["breakglass_holds"] == 0
        await node.submit(hold_s=3600)
        await node.expect_held(120)
        text = text_of(node)
        told = values(text)
        assert told["breakglass_holds"] == 1
        assert told["breakglass_gated_pods"] == 2
        assert 'breakglass_gated_pods{gate="descendants"} 2\n' in text
        assert 'breakglass_gated_pods{gate="watch only"} 0\n' in text
        assert 3400 < told["breakglass_hold_left_seconds"] < 3600
        assert told["breakglass_hold_attempts_total"] == node.tries() > 0
        assert told["breakglass_hold_leaked_seconds_total"] == 0
        assert 'workload="monitoring/telemetry",revision=""' in text


async def test_each_metric_is_introduced_once_before_its_values(tmp_path: Path) -> None:
    """As the exposition format has it: HELP, TYPE, and then all of its lines."""
    async with HeldNode(tmp_path) as node:
        await node.submit()
        blocks = re.split(r"(?m)^(?=# HELP )", text_of(node))[1:]
        names = [block.split(" ", 3)[2] for block in blocks]
        assert len(set(names)) == len(names)
        for name, block in zip(names, blocks, strict=True):
            lines = block.splitlines()
            assert lines[1].split(" ")[:3] == ["#", "TYPE", name]
            assert all(re.match(rf"{name}[{{ ]", line) for line in lines[2:])


def fifo(path: Path) -> None:
    """Put something in a file's place that blocks or misleads a process that opens it."""
    os.mkfifo(path)


def link(path: Path) -> None:
    """Put a link to another file there."""
    (path.parent / "precious").write_text("precious")
    path.symlink_to(path.parent / "precious")


def hard_link(path: Path) -> None:
    """Give another file that name too."""
    (path.parent / "precious").write_text("precious")
    path.hardlink_to(path.parent / "precious")


def left_over(path: Path) -> None:
    """Leave what an agent leaves that is killed while it writes."""
    path.write_text("half of")


@pytest.mark.parametrize("place", [fifo, link, hard_link, left_over])
async def test_nothing_that_lies_in_the_way_is_opened(
    tmp_path: Path, place: Callable[[Path], None]
) -> None:
    """The owner of the collector's folder can neither block the agent nor redirect its write."""
    file, clock, figures = tmp_path / "breakglass.prom", VirtualClock(), Counting()
    place(tmp_path / ".breakglass.prom.new")
    writing = asyncio.create_task(export_metrics(file, figures, NodeClock(clock)))
    await until_written(file, "asked 3\n", clock)
    writing.cancel()
    assert figures.asked == 3
    assert file.stat().st_mode & 0o777 == 0o644
    precious = tmp_path / "precious"
    assert not precious.exists() or precious.read_text() == "precious"


def says(file: Path, text: str) -> bool:
    """Whether a file is there and has this text."""
    return file.is_file() and file.read_text() == text


async def until_written(file: Path, text: str, clock: VirtualClock) -> None:
    """Let time go on until the file says this; each write is a thread's, in its own time."""
    async with asyncio.timeout(60):
        while not says(file, text):
            await clock.advance(1)


async def test_a_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    """A metrics file that cannot be written fails nothing, and is written later."""
    file, clock, figures = tmp_path / "later" / "breakglass.prom", VirtualClock(), Counting()
    writing = asyncio.create_task(export_metrics(file, figures, NodeClock(clock)))
    await clock.advance(1)
    assert not writing.done()
    file.parent.mkdir()
    await until_written(file, "asked 2\n", clock)
    writing.cancel()


async def test_without_a_file_nothing_is_written() -> None:
    """The socket is there for who asks."""
    figures = Counting()
    await export_metrics(None, figures, NodeClock(VirtualClock()))
    assert figures.asked == 0
