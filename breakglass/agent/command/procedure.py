# SPDX-License-Identifier: Apache-2.0
"""What a node does with a signed file, from its arrival to the recorded outcome.

The steps, in order; what a crash after each leaves, and who resolves it:

 (1) bounds: size, and that it is a signed file at all.           Nothing; deliver again.
 (2) decide: the verdict of `core.decide` at one clock reading.   Nothing; deliver again.
 (3) is it for this cluster and node, and unprotected?            Nothing; deliver again.
 (4) seen before? answer the first outcome, act no second time.   Nothing; deliver again.
 (5) append *accepted*: text, signatures, verdict; durable.       The node owes an end: (R).
 (6) plan from the pods as they are; refuse beyond the caps.      The node owes an end: (R).
 (7) the hold is appended; the pods side by side: gate, capture, ladder,
     late limits, sandbox; each outcome is appended.           Pods without one are looked at: (R).
 (8) observe all planned pods once more.                          As after (7).
 (9) append *finished*.                                           Nothing is owed.
 (10) reply with the receipts.                                    Deliver again: (4) answers.

 (R) at the next start, for each command without an end: within its window it goes on at (6), or at
 (7) with the pods that have no outcome; a planned pod whose containers are down by then is recorded
 as it is seen and not touched.  After its window it is closed as *interrupted*, by looking only; a
hold that it has begun goes on to its end.  A release or an extension takes its effects in place of
(6) to (8), each recorded before it is taken.

A refusal is recorded too (see `refusals`).  A repeated delivery of an accepted text is answered
from the log, also after its window has ended.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import structlog

from breakglass.agent.clock import Clock
from breakglass.agent.command.execute import Executor
from breakglass.agent.command.refusals import Refusals, refusal
from breakglass.agent.log.journal import Journal
from breakglass.core import bounds
from breakglass.core.command import Verb
from breakglass.core.decide import Approved, decide
from breakglass.core.entries import Accepted, ApprovalMade, to_lines
from breakglass.core.fold import CommandState
from breakglass.core.names import render_time
from breakglass.core.pods import is_protected
from breakglass.core.progress import Progress, ProgressKind
from breakglass.core.reasons import Reason, Refused, refused_as_malformed
from breakglass.core.signed_file import digest, parse_signed_file
from breakglass.core.trust import Trust
from breakglass.errors import LogUnknown, Malformed, NodeError

# Reasons that can arise after a text was accepted here: it is answered, and not acted on again.
_LAPSED = frozenset({Reason.EXPIRED, Reason.WRONG_TRUST})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeScope:
    """This node's name and place, its protected workloads, and its tolerated clock skew."""

    domain: str
    cluster: str
    node: str
    pool: str
    protected: tuple[str, ...]
    skew_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    """A command that this node has accepted, and whether an earlier delivery brought it."""

    command: CommandState
    repeated: bool


@dataclass(slots=True)
class _Running:
    """A command under way: its steps so far, and a condition for the deliveries that follow it."""

    steps: list[Progress] = field(default_factory=list)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    over: bool = False


class Procedure:
    """The only path by which this node acts on a signed file.

    Args:
        tasks: where accepted commands run; they outlive the delivery that brought them.
    """

    def __init__(
        self,
        *,
        node_scope: NodeScope,
        trust: Trust,
        journal: Journal,
        executor: Executor,
        clock: Clock,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._node_scope = node_scope
        self._trust = trust
        self._journal = journal
        self._executor = executor
        self._clock = clock
        self._tasks = tasks
        self._admission = asyncio.Lock()
        self._running: dict[str, _Running] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("procedure")
        self.refusals = Refusals(journal, clock, node_scope.skew_s)

    @property
    def active(self) -> int:
        """How many commands are under way."""
        return len(self._running)

    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """Return the tasks of the commands under way, for a process that must end."""
        return tuple(self._under_way)

    async def deliver(self, raw: bytes, *, peer: str) -> AsyncIterator[Progress]:
        """Yield the steps of a signed file, until its command has ended on this node.

        Closing the iterator cancels nothing: an accepted command runs to its end.
        """
        async with self._admission:
            answer = await self._admit(raw, peer)
        if isinstance(answer, Progress):
            yield answer
            return
        async for step in self._follow(answer.command, repeated=answer.repeated):
            yield step

    def resume(self) -> None:
        """Start (R) for every command that has no end in the log."""
        for command in self._journal.state.unfinished:
            self._start(command, resumed=True)

    async def _admit(self, raw: bytes, peer: str) -> "Progress | _Admitted":
        """Take steps (1) to (5)."""
        now = self._clock.now()

        async def refuse(refused: Refused) -> Progress:
            index = await self.refusals.record(refused, raw, peer=peer, at=now)
            return Progress(kind=ProgressKind.REFUSED, index=index, refused=refused)

        # (1) Refuse what is too large before parsing it.
        if len(raw) > bounds.MAX_SIGNED_FILE_BYTES:
            return await refuse(
                refusal(
                    Reason.TOO_LARGE, f"at most {bounds.MAX_SIGNED_FILE_BYTES} bytes", f"{len(raw)}"
                )
            )
        try:
            file = parse_signed_file(raw)
        except Malformed as error:
            return await refuse(refused_as_malformed(error))
        # (2) The verdict and the entry that records it use one reading of the clock.
        verdict = decide(file.text, file.armors, self._trust, now, skew_s=self._node_scope.skew_s)
        seen = self._journal.state.by_sha256(digest(file.text))
        if isinstance(verdict, Refused):
            if seen is not None and verdict.reason in _LAPSED:
                return _Admitted(command=seen, repeated=True)
            return await refuse(verdict)
        # (3) An approved command may be meant for other nodes.
        elsewhere = self._scope(verdict)
        if elsewhere is not None:
            return await refuse(elsewhere)
        # (4) A known id with other bytes is refused: the id alone does not identify a text.
        if seen is not None:
            return _Admitted(command=seen, repeated=True)
        if verdict.command.id in self._journal.state.commands:
            first = self._journal.state.commands[verdict.command.id].sha256
            return await refuse(
                refusal(Reason.ID_REUSED, f"the first text {first}", verdict.sha256)
            )
        late = self._too_late_or_busy(verdict)
        if late is not None:
            return await refuse(late)
        # (5) After this append the node owes an end.
        return await self._accept(verdict, peer, raw)

    def _scope(self, approved: Approved) -> Refused | None:
        node_scope, command = self._node_scope, approved.command
        if node_scope.cluster not in command.targets.clusters:
            return refusal(
                Reason.WRONG_CLUSTER, ", ".join(command.targets.clusters), node_scope.cluster
            )
        if not command.targets.covers(node_scope.cluster, node_scope.node, node_scope.pool):
            return refusal(Reason.WRONG_NODE, "a node that the command names", node_scope.node)
        # A release is allowed for a workload that the owner has protected since the stop.
        lets_go = command.action.verb is Verb.RELEASE
        if not lets_go and is_protected(command.action.workload, node_scope.protected):
            return refusal(
                Reason.PROTECTED,
                "a workload that this node does not protect",
                str(command.action.workload),
            )
        return None

    def _too_late_or_busy(self, approved: Approved) -> Refused | None:
        floor, ends = self._journal.state.time_floor, approved.command.not_after
        # A clock that was turned back revives no old command: people signed the floor's time.
        if floor is not None and ends < floor:
            return refusal(
                Reason.ENDED_BEFORE_FLOOR, f"an end after {render_time(floor)}", render_time(ends)
            )
        if self.active >= bounds.MAX_ACTIVE_COMMANDS:
            return refusal(
                Reason.BUSY,
                f"fewer than {bounds.MAX_ACTIVE_COMMANDS} commands under way",
                str(self.active),
            )
        return None

    async def _accept(self, approved: Approved, peer: str, raw: bytes) -> "Progress | _Admitted":
        command = approved.command
        body = Accepted(
            id=command.id,
            sha256=approved.sha256,
            mode=str(command.mode),
            summary=command.summary,
            created=render_time(command.created),
            not_after=render_time(command.not_after),
            skew_s=self._node_scope.skew_s,
            policies=approved.policies,
            approvals=tuple(
                ApprovalMade(
                    person=one.person,
                    key=one.fingerprint,
                    kind=one.key_kind,
                    flags=-1 if one.flags is None else one.flags,
                    counter=-1 if one.counter is None else one.counter,
                )
                for one in approved.approvals
            ),
            peer=peer,
            file=to_lines(raw),
        )
        try:
            await self._journal.record(body, at=approved.decided_at)
        except Malformed as error:
            refused = refusal(Reason.TOO_LARGE, "a file that fits one log entry", error.message)
            index = await self.refusals.record(refused, raw, peer=peer)
            return Progress(kind=ProgressKind.REFUSED, index=index, refused=refused)
        except NodeError as error:
            # What cannot be recorded is not done (P4).
            reason = (
                Reason.LOG_UNKNOWN if isinstance(error, LogUnknown) else Reason.STATE_UNWRITABLE
            )
            return Progress(
                kind=ProgressKind.REFUSED,
                refused=refusal(reason, "a durable entry before any act", error.message),
            )
        accepted = self._journal.state.commands[command.id]
        self._start(accepted, resumed=False)
        return _Admitted(command=accepted, repeated=False)

    def _start(self, command: CommandState, *, resumed: bool) -> None:
        self._running[command.id] = _Running()
        task = self._tasks.create_task(self._run(command, resumed=resumed))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _run(self, command: CommandState, *, resumed: bool) -> None:
        running = self._running[command.id]
        try:
            await self._publish(
                running, Progress(kind=ProgressKind.ACCEPTED, index=command.accepted_at)
            )
            async for step in self._executor.run(command, resumed=resumed):
                await self._publish(running, step)
        except NodeError as error:
            # The log cannot be written: touch nothing more; the next start resolves the command.
            self._log.error(
                "command left for the next start", id=command.id, code=error.stable_code
            )
        finally:
            del self._running[command.id]
            async with running.grown:
                running.over = True
                running.grown.notify_all()

    @staticmethod
    async def _publish(running: _Running, step: Progress) -> None:
        async with running.grown:
            running.steps.append(step)
            running.grown.notify_all()

    async def _follow(self, command: CommandState, *, repeated: bool) -> AsyncIterator[Progress]:
        """Yield the steps so far and those to come, or (10) from the log when it has ended."""
        running = self._running.get(command.id)
        if running is None:
            for step in self._recorded(self._journal.state.commands[command.id]):
                yield step
            return
        place = 0
        while True:
            async with running.grown:
                while len(running.steps) == place and not running.over:
                    await running.grown.wait()
                fresh = running.steps[place:]
            for step in fresh:
                yield replace(step, repeated=repeated)
            place += len(fresh)
            if running.over and place == len(running.steps):
                return

    @staticmethod
    def _recorded(command: CommandState) -> list[Progress]:
        """Return (10) of a command that ended before: its first outcome, from the log."""
        steps = [Progress(kind=ProgressKind.ACCEPTED, index=command.accepted_at, repeated=True)]
        steps += [
            Progress(kind=ProgressKind.POD, index=index, repeated=True) for _, index in command.pods
        ]
        if command.finished_at is not None:
            steps.append(
                Progress(kind=ProgressKind.FINISHED, index=command.finished_at, repeated=True)
            )
        return steps
