# SPDX-License-Identifier: Apache-2.0
"""The sentences below the signed text that say what a command does.

They are for approvers who have never read the format.  They say nothing that the text does not;
they are not signed, and no node reads them.
"""

from breakglass.core.command import Action, Command, Mode, Verb
from breakglass.core.names import render_duration

BACK_OFF = "kubelet starts them again when its back-off ends, up to 5 minutes later"


def meaning(command: Command) -> tuple[str, ...]:
    """Return sentences that say what a command does, one for each line."""
    action = command.action
    found = [*_deed(action), *_condition(action)]
    if command.mode is Mode.DRY_RUN:
        found.insert(0, "it changes nothing: each node answers what the command would do there")
    return tuple(found)


def drilled(verb: Verb) -> str:
    """Return what a drill of this verb changes on the nodes."""
    return {
        Verb.STOP: "it really stops the named pods",
        Verb.EVICT: "it really stops the named pods",
        Verb.RELEASE: "it really ends the holds of the named workload",
        Verb.EXTEND: "it really keeps the named workload down for longer",
    }[verb]


def _deed(action: Action) -> tuple[str, ...]:
    holds = "the hold of that command" if action.holds_of else "every hold of this workload"
    match action.verb:
        case Verb.RELEASE:
            return (f"it ends {holds} on these nodes", f"the pods may run again: {BACK_OFF}")
        case Verb.EXTEND:
            lasts = f"last {render_duration(action.hold_s)} from when a node accepts this command"
            return (f"it makes {holds} {lasts}", "it never shortens a hold and stops no other pods")
        case _:
            return (*_stopped(action), *_held(action))


def _stopped(action: Action) -> tuple[str, ...]:
    stops = f"it stops the pods: SIGTERM, and SIGKILL after {render_duration(action.grace_s)}"
    if action.verb is Verb.EVICT:
        return (stops, "it also stops their sandboxes; the pod is down even if that fails")
    return (stops,)


def _held(action: Action) -> tuple[str, ...]:
    if not action.hold_s:
        return ("it does not keep them down: kubelet starts them again within seconds",)
    hold = render_duration(action.hold_s)
    return (
        f"it then keeps them down for {hold}, and new pods of the workload too; the hold survives"
        " restarts of kubelet, the agent, the runtime and the node",
        "a release ends the hold earlier, an extend makes it last longer; both need approvals too",
    )


def _condition(action: Action) -> tuple[str, ...]:
    found = []
    if action.revision:
        found.append(f"only pods of revision {action.revision}; it does not touch other revisions")
    if action.image:
        found.append("only pods with a container of that image; it does not touch other pods")
    return tuple(found)
