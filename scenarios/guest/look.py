# SPDX-License-Identifier: Apache-2.0
"""Count what happened in the guest, without trusting the agent.

The lines that user code wrote show that it ran; kubelet's log shows its attempts; the kernel's
files show the gates.  `SCRIPT` prints one line for each fact, and `parse_look` parses its output.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

NAMESPACE = "monitoring"
_PODS = "/sys/fs/cgroup/kubepods.slice/*/kubepods-*-pod*.slice"
_FAILED = "(RunContainerError|CreatePodSandboxError)"
_POD = rf"{NAMESPACE}\/([^\"]+)-[a-z0-9]{{5}}"
# Facts: lines written by a DaemonSet's code, failed starts in kubelet's log, limits of a pod.
SCRIPT = rf"""
cd /node-out && for file in *; do test -f $file && echo "lines $file $(wc -l <$file)"; done
sed -nE 's/.*"Error syncing pod, skipping".* with {_FAILED}:.* pod="{_POD}".*/failed \2 \1/p' \
 /var/log/kubelet.log
for pod in {_PODS}; do test -d $pod &&
 echo "gate ${{pod##*/}} $(cat $pod/cgroup.max.descendants) $(cat $pod/pids.max)"; done
echo end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Two limits of a pod's cgroup, read from the kernel."""

    descendants: str
    pids: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The counts at one moment.

    Attributes:
        lines: the number of lines that each DaemonSet's code has written.
        attempts: kubelet's failed attempts for each DaemonSet, to start a container or a sandbox.
        sandboxes: of those, the attempts to start a sandbox.
        gates: the limits of each pod's slice.
    """

    lines: Mapping[str, int]
    attempts: Mapping[str, int]
    sandboxes: Mapping[str, int]
    gates: Mapping[str, Gate]


def parse_look(text: str) -> Look:
    """Return the counts in the output of `SCRIPT`; raise AssertionError if it was cut off."""
    lines: dict[str, int] = {}
    attempts: Counter[str] = Counter()
    sandboxes: Counter[str] = Counter()
    gates: dict[str, Gate] = {}
    *facts, end = text.splitlines()
    assert end == "end", text
    for fact in facts:
        kind, name, *rest = fact.split()
        match kind:
            case "lines":
                lines[name] = int(rest[0])
            case "failed":
                attempts[name] += 1
                sandboxes[name] += rest[0] == "CreatePodSandboxError"
            case "gate":
                gates[name] = Gate(descendants=rest[0], pids=rest[1])
    return Look(lines=lines, attempts=attempts, sandboxes=sandboxes, gates=gates)
