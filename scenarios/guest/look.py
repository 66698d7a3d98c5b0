# SPDX-License-Identifier: Apache-2.0
"""What is counted in the guest, and by whom: never by the agent.

User code is counted by the lines it wrote itself, attempts by kubelet's own log, gates by the
kernel's files.  `SCRIPT` prints all of it, one line per fact, and `parse_look` reads that.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

NAMESPACE = "monitoring"
_PODS = "/sys/fs/cgroup/kubepods.slice/*/kubepods-*-pod*.slice"
_FAILED = "(RunContainerError|CreatePodSandboxError)"
_POD = rf"{NAMESPACE}\/([^\"]+)-[a-z0-9]{{5}}"
# One line per fact: what a DaemonSet's code wrote, what kubelet failed to start, what a slice says.
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
    """Two limits of a pod's cgroup, as the kernel tells them."""

    descendants: str
    pids: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was there at one moment, for each DaemonSet and each pod's slice.

    Attributes:
        lines: what user code has written.
        attempts: containers that kubelet could not start, and sandboxes that it could not make.
        sandboxes: of those, the sandboxes.
        gates: the limits of each slice.
    """

    lines: Mapping[str, int]
    attempts: Mapping[str, int]
    sandboxes: Mapping[str, int]
    gates: Mapping[str, Gate]


def parse_look(text: str) -> Look:
    """Return what the script that looks has said."""
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
