# SPDX-License-Identifier: Apache-2.0
"""The node's metrics as Prometheus text (exposition format 0.0.4).

Metrics never delay a command (P9): one that cannot be written is dropped, and none is read back.
Labels hold names that documents allow, so nothing has to be escaped.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from breakglass import __version__
from breakglass.agent.clock import Clock
from breakglass.agent.hold.counters import Counts
from breakglass.core.fold import State
from breakglass.core.gates import Gate
from breakglass.core.holds import Hold

EXPORT_EVERY_S = 15.0
_READABLE = 0o644  # the node exporter's textfile collector is not root


class MetricsSource(Protocol):
    """Gives this node's metrics as they are now."""

    def metrics_text(self) -> str:
        """Return the metrics as text."""
        ...


def render_metrics(
    state: State,
    counters: Mapping[str, Counts],
    *,
    active: int,
    mono_ms: int,
    ungated: int = 0,
) -> str:
    """Return the node's metrics.

    Args:
        state: what the log says.
        counters: each active hold's counts, by its command's id.
        active: how many commands are under way.
        mono_ms: time since boot, for what is left of the holds.
        ungated: how many held pods have no gate, and are only watched.
    """
    return "\n".join(_lines(state, counters, active, mono_ms, ungated)) + "\n"


def _lines(
    state: State, counters: Mapping[str, Counts], active: int, mono_ms: int, ungated: int
) -> Iterator[str]:
    yield from _metric("agent_info", "gauge", "The running agent.", {f'version="{__version__}"': 1})
    yield from _metric("log_entries", "gauge", "Entries of the audit log.", {"": state.size})
    yield from _metric("commands_active", "gauge", "Commands under way.", {"": active})
    yield from _metric(
        "commands_total", "counter", "Commands accepted here.", {"": len(state.commands)}
    )
    gates = Counter(pod.gate or "none" for pod in state.gates.values())
    gates[Gate.WATCH_ONLY] += ungated
    kinds = (*Gate, "none")
    yield from _metric(
        "gated_pods",
        "gauge",
        "Held pods, by the gate that was proven to hold them.",
        {f'gate="{kind}"': gates[kind] for kind in kinds},
    )
    holds = state.active_holds
    yield from _metric("holds", "gauge", "Holds in force.", {"": len(holds)})
    yield from _metric(
        "hold_left_seconds",
        "gauge",
        "Seconds left of each hold.",
        {_labels(hold): hold.left_ms(mono_ms) / 1_000 for hold in holds},
    )
    counted: tuple[tuple[str, str, Callable[[Counts], float]], ...] = (
        ("attempts", "Starts that the gate made fail.", lambda one: one.attempts),
        ("stops", "Containers that ran although held.", lambda one: one.stops),
        ("resets", "Limits set again after another process changed them.", lambda one: one.resets),
        ("leaked_seconds", "User code that ran although held.", lambda one: one.leaked_ms / 1_000),
    )
    for name, words, of in counted:
        counts = {_labels(hold): of(counters.get(hold.id, Counts())) for hold in holds}
        yield from _metric(f"hold_{name}_total", "counter", words, counts)


def _labels(hold: Hold) -> str:
    workload = hold.workload
    return (
        f'workload="{workload.namespace}/{workload.name}",revision="{workload.revision or ""}"'
        f',command="{hold.id}"'
    )


def _metric(name: str, kind: str, words: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP breakglass_{name} {words}"
    yield f"# TYPE breakglass_{name} {kind}"
    for labels, value in values.items():
        yield (
            f"breakglass_{name}{{{labels}}} {value:.15g}"
            if labels
            else f"breakglass_{name} {value}"
        )


async def export_metrics(path: Path | None, source: MetricsSource, clock: Clock) -> None:
    """Write the metrics to a file every 15 s, until cancelled; without a path, do nothing."""
    while path is not None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(_write, path, source.metrics_text())
        await clock.sleep(EXPORT_EVERY_S)


def _write(path: Path, text: str) -> None:
    """Replace the file atomically: a collector must never see half of it.

    The folder may be the collector's own.  What lies under the fresh name is removed and never
    opened: a FIFO there would stop the agent, and a link would have it write somewhere else.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(fresh, flags, _READABLE), "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), _READABLE)  # independent of the umask
        file.write(text)
    fresh.rename(path)
