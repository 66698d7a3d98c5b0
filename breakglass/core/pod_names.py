# SPDX-License-Identifier: Apache-2.0
"""Parse the names that kubelet gives a pod's log directory and a pod's control group.

Kubelet creates `<namespace>_<name>_<uid>` under its pod logs just before it asks for a sandbox
(BuildPodLogsDirectory; "_" is illegal in all three parts), and a control group named
`pod<uid>` (cgroupfs driver) or `...-pod<uid, its "-" as "_">.slice` (systemd driver).  The uid is a
UUID, or 32 hex digits for a pod that comes from a file on the node.

A name of any other form is not a pod's: the functions return None for it and raise nothing.
This module reads no directory.
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
    """A sign of a pod on the node, perhaps of a new one.

    Attributes:
        uid: the pod's uid.
        namespace, name: those of the pod; "" if seen as a control group, whose name has only the
            uid.
    """

    uid: str
    namespace: str
    name: str


def parse_pod_log_name(text: str) -> PodEvent | None:
    """Return the pod whose log directory has this name, or None for another name."""
    match = _LOGS.fullmatch(text) if len(text) <= _FILE_CHARS else None
    if match is None or len(match[2]) > _NAME_CHARS:
        return None
    return PodEvent(namespace=match[1], name=match[2], uid=match[3])


def uid_of_group_name(name: str) -> str | None:
    """Return the uid of the pod whose control group has this name, or None for another name."""
    if len(name) > _FILE_CHARS:
        return None
    if match := _GROUP.fullmatch(name):
        return match[1]
    match = _SLICE.fullmatch(name)
    return match[1].replace("_", "-") if match else None
