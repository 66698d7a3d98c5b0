# SPDX-License-Identifier: Apache-2.0
"""The agent's process: start, readiness, signals, and end.

Start, in order: settings and files -> the log, replayed -> the runtime client -> the door's places
taken (unix socket, then TCP) -> *started* on record -> holds in force again -> commands that a
crash left behind -> the door open -> ready.  A runtime that does not answer does
not keep the agent from starting: being there when other things are not is its purpose.

A failed sync of the log ends the process: only a new start can find out what reached the disk.
On SIGTERM the door closes, commands under way get a while to end, and what is left is resolved at
the next start, in the log.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys

import structlog

from breakglass import __version__
from breakglass.agent.assembly import Agent, Ports, assemble
from breakglass.agent.clock import Clock
from breakglass.agent.command.procedure import Procedure
from breakglass.agent.config import Config, NodeIdentity, read_identity
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.agent.logging import LogLines
from breakglass.agent.runtime.port import Runtime
from breakglass.agent.serve.listeners import open_listeners
from breakglass.agent.serve.metrics import export_metrics
from breakglass.agent.serve.service import Service
from breakglass.core import bounds
from breakglass.core.checkpoint import LogSigner
from breakglass.core.entries import Started, Stopped, TrustTaken, to_lines
from breakglass.errors import BreakglassError, ConfigInvalid, LogUnknown, NodeError

DRAIN_S = 20.0  # below systemd's TimeoutStopSec in our unit
_RESOLVER_EVENTS = frozenset(
    {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
)


def forbid_name_resolution() -> None:
    """Make every name resolution in this process an error from now on (P1)."""

    def refuse(event: str, _: tuple[object, ...]) -> None:
        if event in _RESOLVER_EVENTS:
            raise ConfigInvalid(
                f"expected no name to be resolved, got {event}", code="name-resolution"
            )

    sys.addaudithook(refuse)


def log_as_json() -> None:
    """Send structured log lines to stdout, one JSON object each, and never block on it."""
    lines = LogLines(sys.stdout)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: lines,
    )


def notify(message: str) -> None:
    """Send a state to systemd, if it set NOTIFY_SOCKET (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(message.encode(), address)


def serve(config: Config, ports: Ports | None = None) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        InputError: a setting or file cannot be used.
        NodeError: the state directory or the log cannot be used.
        EvidenceError: the log contradicts itself.
    """
    identity = read_identity(config)
    signer = LogSigner(origin=config.origin, seed=identity.log_seed)
    ports = ports or Ports()
    audit = ports.open_log(config.state_directory / "log", signer)
    failure: BreakglassError | None = None
    try:
        asyncio.run(_serve(config, identity, audit, ports))
    except* BreakglassError as group:
        # Raise it below: until Python 3.11.4 an error raised in here comes out wrapped (gh-103590).
        failure = _first(group)
    finally:
        audit.close()
    if failure:
        raise failure


def _first(group: ExceptionGroup[BreakglassError]) -> BreakglassError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


async def _serve(config: Config, identity: NodeIdentity, audit: AuditLog, ports: Ports) -> None:
    clock = ports.clock()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    journal = Journal(audit, clock)
    async with asyncio.TaskGroup() as tasks:
        agent = assemble(config, identity, journal, clock, ports, tasks, stop)
        parts, procedure = agent.parts, agent.procedure
        await _look_at_runtime(parts.runtime)
        listeners = open_listeners(
            config, identity, Service(parts), procedure.refusals, lambda: begin(agent)
        )
        async with listeners as address:
            _say_ready(config, address, journal)
            watching = tasks.create_task(agent.watch.run())
            export = tasks.create_task(export_metrics(config.metrics_textfile, parts, clock))
            await _until_stopped(stop, journal)
            notify("STOPPING=1")
        await _end(journal, procedure, clock)
        for task in (watching, export):
            task.cancel()
    await parts.runtime.close()


async def begin(agent: Agent) -> None:
    """Record the start, put holds in force again, and resume what a crash left behind.

    It is called with the listeners' places taken: a start that fails before that is no entry.

    Raises:
        ConfigInvalid: the log holds another trust than the configured one (trust-mismatch).
        NodeError: the log cannot be written.
    """
    await _record_start(agent.parts.journal, agent.config, agent.identity)
    await asyncio.to_thread(agent.captures.measure)
    # Signed holds are in force again before the agent says that it is ready.
    await agent.watch.restore()
    agent.procedure.resume()


def _say_ready(config: Config, address: str, journal: Journal) -> None:
    """Report to the log and to systemd that the agent is ready, and how many holds it has."""
    state = journal.state
    structlog.get_logger("daemon").info(
        "ready",
        version=__version__,
        node=config.name,
        address=address,
        socket=str(config.socket),
        holds=len(state.active_holds),
    )
    status = f"trust {state.trust_version}, {state.size} entries, {len(state.active_holds)} holds"
    notify(f"READY=1\nSTATUS={status}")


async def _end(journal: Journal, procedure: Procedure, clock: Clock) -> None:
    """Wait for commands under way, record the stop, and leave the rest to the next start."""
    if journal.broken.is_set():
        raise LogUnknown("the log could not be synced: what reached the disk is unknown")
    await _drain(procedure, clock)
    await journal.record(Stopped(active=procedure.active))
    structlog.get_logger("daemon").info("stopped", active=procedure.active)
    for task in procedure.tasks():
        task.cancel()


async def _record_start(journal: Journal, config: Config, identity: NodeIdentity) -> None:
    await journal.record_repairs()
    trust = identity.trust
    known = journal.state.trust_sha256
    if known and known != trust.sha256:
        raise ConfigInvalid(
            f"expected the trust of this log {known}, got {trust.sha256}",
            code="trust-mismatch",
            hint="a new trust needs the quorum of the old one; put the old file back",
        )
    started = Started(
        version=__version__,
        domain=config.domain,
        cluster=config.cluster,
        node=config.name,
        pool=config.pool,
        trust_version=trust.version,
        trust_sha256=trust.sha256,
    )
    await journal.record(started)
    if not known:
        text = to_lines(identity.trust_text)
        await journal.record(TrustTaken(version=trust.version, sha256=trust.sha256, text=text))


async def _look_at_runtime(runtime: Runtime) -> None:
    """Log which runtime answers, or why none does; neither stops the start."""
    log = structlog.get_logger("daemon")
    try:
        found = await runtime.version()
        log.info("runtime", name=found.name, version=found.version)
    except NodeError as error:
        log.warning("runtime", code=error.stable_code, error=error.message, hint=error.hint)


async def _until_stopped(stop: asyncio.Event, journal: Journal) -> None:
    """Wait for a signal or a broken log, and keep systemd's watchdog fed."""
    interval_s = float(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000 / 2 or None
    waiting = {asyncio.create_task(stop.wait()), asyncio.create_task(journal.broken.wait())}
    try:
        while True:
            done, _ = await asyncio.wait(
                waiting, timeout=interval_s, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            notify("WATCHDOG=1")
    finally:
        for task in waiting:
            task.cancel()


async def _drain(procedure: Procedure, clock: Clock) -> None:
    deadline_ms = clock.monotonic_ms() + round(DRAIN_S * 1_000)
    while procedure.active and clock.monotonic_ms() < deadline_ms:
        await clock.sleep(bounds.LOOK_INTERVAL_S)
