# SPDX-License-Identifier: Apache-2.0
"""Gates of pods that an agent knows from its log alone."""

from dataclasses import replace
from pathlib import Path

from breakglass.agent.clock import SystemClock
from breakglass.agent.hold.coverage import Coverage
from breakglass.agent.hold.gates import PodGates
from breakglass.agent.hold.limit_setter import LimitSetter
from breakglass.agent.log.auditlog import AuditLog
from breakglass.agent.log.journal import Journal
from breakglass.agent.runtime.cri import CriRuntime
from breakglass.agent.runtime.oci import OciRuntimes
from breakglass.core.checkpoint import LogSigner
from breakglass.core.gates import Oci
from breakglass.core.holds import GatedPod
from tests.support.fake_host import Host
from tests.support.virtual_agent import NoKnownPods

UID = "0f3cb7a2-5d4e-4a1b-9c8d-7e6f5a4b3c2d"
SIGNER = LogSigner("breakglass/example/prod-a/n1", bytes(32))


def test_a_group_to_which_only_the_runtime_led_is_not_taken_for_gone(tmp_path: Path) -> None:
    """An agent that was started since finds it by its record; else its limits stayed forever."""
    host = Host(tmp_path / "host", unified=True, v1=False)
    path = f"elsewhere/pod{UID}"
    host.group(path)
    group = host.kernel().groups.pod_group(UID, f"/{path}")
    assert group is not None
    kernel = host.kernel()
    assert kernel.groups.pod_group(UID) is None
    log = AuditLog.open(tmp_path / "log", SIGNER)
    journal = Journal(log, SystemClock())
    gates = PodGates(
        journal=journal,
        setter=LimitSetter(kernel.groups, kernel.limits),
        oci_runtimes=OciRuntimes(CriRuntime(tmp_path / "none")),
        coverage=Coverage(journal, NoKnownPods()),
    )
    gated = GatedPod(
        uid=UID,
        namespace="monitoring",
        name="telemetry-bcdfg",
        hold="",
        cgroup=path,
        inode=group.inode,
        oci=Oci.RUNC,
        limits=(),
    )
    assert gates.exists(gated)
    assert not gates.exists(replace(gated, inode=group.inode + 1))
    assert not gates.exists(replace(gated, cgroup="elsewhere"))
    log.close()
