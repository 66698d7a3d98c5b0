# SPDX-License-Identifier: Apache-2.0
"""What a command does, in a few plain sentences beside the signed text.

For people who approve at night and have never read the format.  The sentences say nothing that the
text does not; nobody signs them, and no node reads them.
"""

from breakglass.core.command import Action, Command, Mode, Verb
from breakglass.core.names import render_duration

BACK_OFF = "kubelet brings them back when its back-off ends, up to 5 minutes later"


def meaning(command: Command) -> tuple[str, ...]:
    """Return what a command does, one sentence a line."""
    action = command.action
    found = [*_deed(action), *_condition(action)]
    if command.mode is Mode.DRY_RUN:
        found.insert(0, "it changes nothing: each node answers what it would do")
    return tuple(found)


def drilled(verb: Verb) -> str:
    """Return what a drill of this verb really does."""
    return {
        Verb.STOP: "it really stops the named pods",
        Verb.EVICT: "it really stops the named pods",
        Verb.RELEASE: "it really lets the named workload go",
        Verb.EXTEND: "it really keeps the named workload down for longer",
    }[verb]


def _deed(action: Action) -> tuple[str, ...]:
    holds = "the hold of that command" if action.holds_of else "every hold of this workload"
    match action.verb:
        case Verb.RELEASE:
            return (f"it ends {holds} on these nodes", f"the pods are let go: {BACK_OFF}")
        case Verb.EXTEND:
            lasts = f"last {render_duration(action.hold_s)} from the moment a node accepts this"
            return (f"it makes {holds} {lasts}", "it never shortens a hold and stops nothing new")
        case _:
            return (*_stopped(action), *_held(action))


def _stopped(action: Action) -> tuple[str, ...]:
    stops = f"it stops these pods: SIGTERM, and SIGKILL after {render_duration(action.grace_s)}"
    if action.verb is Verb.EVICT:
        return (stops, "it takes their sandboxes down too; where that fails the pod is down still")
    return (stops,)


def _held(action: Action) -> tuple[str, ...]:
    if not action.hold_s:
        return ("it does not hold them: kubelet starts them again within seconds",)
    hold = render_duration(action.hold_s)
    return (
        f"it keeps them down for {hold} from then on, new pods of the workload too, also when the"
        " agent, the runtime or the node starts again",
        "a release ends that earlier, an extend later; both need approvals like this one",
    )


def _condition(action: Action) -> tuple[str, ...]:
    found = []
    if action.revision:
        found.append(f"only revision {action.revision}; pods of another one are left alone")
    if action.image:
        found.append("only pods with a container of that image; others are left alone")
    return tuple(found)
