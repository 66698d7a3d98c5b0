# SPDX-License-Identifier: Apache-2.0
"""Verify the hold entries of a log against the commands that people signed.

- A hold has the workload, revision, image and length of its own command, which stops pods and is no
  dry run.  So a node cannot hold a workload without approval, or longer than approved.
- A hold is extended or released only by an approved command of that verb that selects it.
- A hold expires only after its time.  Root on the node can let a hold go without approval; the
  report lists that.
- A gate is only for a hold in force that covers the pod's name.

No signature proves what a gate did to a control group: only the node reports that.
"""

from collections.abc import Mapping

from breakglass.core.command import Command, Mode, Verb
from breakglass.core.entries import Entry
from breakglass.core.fold import State
from breakglass.core.hold_entries import GateIntended, HoldBegun, HoldEnded, HoldExtended
from breakglass.core.holds import Covers
from breakglass.core.plan import workload_of
from breakglass.errors import LogTampered

LET_GO = "let-go"


def verify_hold(entry: Entry, before: State, after: State, commands: Mapping[str, Command]) -> None:
    """Raise `LogTampered` for a hold entry that no approved command justifies.

    Args:
        entry: any entry; entries of other kinds pass.
        before: the log's state before it.
        after: the state after it, as `fold` returned it.
        commands: the commands with a verified acceptance, by id.
    """
    match entry.body:
        case HoldBegun() as body:
            _verify_begun(body, commands[body.id])  # `fold` requires its acceptance
        case HoldExtended() as body:
            command = _verify_selects(body.id, body.by, Verb.EXTEND, before, commands)
            if body.hold_s != command.action.hold_s:
                raise LogTampered(
                    f"expected an extension by {command.action.hold_s} s as signed,"
                    f" got one by {body.hold_s} s"
                )
        case HoldEnded(why="released") as body:
            _verify_selects(body.id, body.by, Verb.RELEASE, before, commands)
        case HoldEnded(why="expired") as body:
            early_ms = after.holds[body.id].unused_ms
            if early_ms:
                raise LogTampered(f"expected a hold to expire at its end, got {early_ms} ms early")
        case HoldEnded() as body if body.why != LET_GO:
            raise LogTampered(f"expected a known end of a hold, got {body.why!r}")
        case GateIntended() as body:
            _verify_gate(body, before)
        case _:
            pass


def _verify_begun(body: HoldBegun, command: Command) -> None:
    action = command.action
    if not action.verb.stops or not action.hold_s or command.mode is Mode.DRY_RUN:
        raise LogTampered(f"expected no hold of {body.id}, whose command asks for none, got one")
    signed = (
        str(command.mode),
        action.namespace,
        action.name,
        action.revision,
        action.image,
        action.hold_s,
    )
    if signed != (body.mode, body.namespace, body.name, body.revision, body.image, body.hold_s):
        raise LogTampered(f"expected the hold of {body.id} as signed, got another")


def _verify_gate(body: GateIntended, before: State) -> None:
    hold = before.holds.get(body.hold)
    if hold is None or not hold.is_active:
        raise LogTampered(f"expected a gate for a hold in force, got one for {body.hold}")
    if hold.covers_name(body.namespace, body.name) is Covers.NO:
        raise LogTampered(
            f"expected a gate on a pod of {hold.workload.namespace}/{hold.workload.name},"
            f" got one on {body.namespace}/{body.name}"
        )


def _verify_selects(
    held: str, by: str, verb: Verb, before: State, commands: Mapping[str, Command]
) -> Command:
    """Return the command that changes a hold; raise unless it is approved and selects the hold."""
    command = commands.get(by)
    if command is None or command.action.verb is not verb or command.mode is Mode.DRY_RUN:
        raise LogTampered(f"expected an approved {verb} for the hold of {held}, got none")
    hold = before.holds.get(held)
    selector = workload_of(command.action), command.action.holds_of
    if hold is None or not hold.is_meant(*selector):
        raise LogTampered(f"expected a {verb} that selects the hold of {held}, got another")
    return command
