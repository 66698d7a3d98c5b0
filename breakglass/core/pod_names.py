# SPDX-License-Identifier: Apache-2.0
"""The names that kubelet gives to a pod's log folder and control group.

Kubelet makes `<namespace>_<name>_<uid>` under its pod logs just before it asks for a sandbox
(BuildPodLogsDirectory; "_" is illegal in all three parts), and a control group named
`pod<uid>` (cgroupfs driver) or `...-pod<uid, its "-" as "_">.slice` (systemd driver).  The uid is a
UUID, or 32 hex digits for a pod that comes from a file on the node.

Both functions return None for a name of any other shape.  This module reads no folder.
"""

import re
from dataclasses import dataclass

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ESCAPED = _UUID.replace("-[", "_[")
_HASH = r"[0-9a-f]{32}"
_NAME_CHARS = 253  # a DNS subdomain
_FILE_CHARS = 255  # NAME_MAX of every file system that kubelet writes on

_LOGS = re.compile(rf"({_LABEL})_({_LABEL}(?:\.{_LABEL})*)_({_UUID}|{_HASH})", re.ASCII)
_GROUP = re.compile(rf"pod({_UUID}|{_HASH})", re.ASCII)
_SLICE = re.compile(rf"[A-Za-z0-9_.\\-]+-pod({_ESCAPED}|{_HASH})\.slice", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEvent:
    """A log folder or control group of a pod, which may be a new pod.

    Attributes:
        uid: the pod's uid.
        namespace: its namespace; "" for a control group, which tells only the UID.
        name: its name; "" likewise.
    """

    uid: str
    namespace: str
    name: str


def parse_pod_log_name(text: str) -> PodEvent | None:
    """Return the pod whose log folder has this name, or None if no pod's has it."""
    match = _LOGS.fullmatch(text) if len(text) <= _FILE_CHARS else None
    if match is None or len(match[2]) > _NAME_CHARS:
        return None
    return PodEvent(namespace=match[1], name=match[2], uid=match[3])


def uid_of_group_name(name: str) -> str | None:
    """Return the UID of the pod whose control group has this name, or None if no pod's has it."""
    if len(name) > _FILE_CHARS:
        return None
    if match := _GROUP.fullmatch(name):
        return match[1]
    match = _SLICE.fullmatch(name)
    return match[1].replace("_", "-") if match else None
