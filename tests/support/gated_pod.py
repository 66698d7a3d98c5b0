# SPDX-License-Identifier: Apache-2.0
"""A pod whose limits are set, on a machine of files with trees of one kind."""

from pathlib import Path

import pytest

from breakglass.core.gates import Limit, Oci
from breakglass.errors import GateFailed
from tests.support.fake_host import UID, Host

SLICED = UID.replace("-", "_")
UNIT = f"kubepods-besteffort-pod{SLICED}.slice"
SLICE = f"kubepods.slice/kubepods-besteffort.slice/{UNIT}"
POD = f"kubepods/besteffort/pod{UID}"
KINDS = {"v2": (True, False), "v1": (False, True), "hybrid": (True, True)}


class Gated:
    """A pod on a machine with trees of one kind, and that machine's kernel."""

    def __init__(self, root: Path, kind: str, path: str) -> None:
        unified, v1 = KINDS[kind]
        self.host = Host(root, unified=unified, v1=v1)
        self.tasks = self.host.file(path, "pids" if v1 else "", "pids.max")
        if path == SLICE:
            self.host.systemd.install({UNIT: {"TasksMax": "infinity", "file": str(self.tasks)}})
        self.group = self.host.pod(path)
        self.kernel = self.host.kernel()

    def limits(self) -> tuple[Limit, ...]:
        """Return the pod's limits with their present values."""
        return self.kernel.limits.current(self.group, Oci.RUNC)

    def set_all(self) -> tuple[Limit, ...]:
        """Set all limits and return them."""
        limits = self.limits()
        for limit in limits:
            self.kernel.limits.set_limit(self.group, limit)
        return limits


def code_of(refused: pytest.ExceptionInfo[GateFailed]) -> str:
    """Return the stable code of an error."""
    return refused.value.stable_code
