# SPDX-License-Identifier: Apache-2.0
"""The lab itself: everything that it starts is removed afterwards, in every case."""

import subprocess
from pathlib import Path

import pytest

from lab import leftovers, netns
from lab.containerd import Containerd, why_not
from lab.pods import make_pod, processes_of

pytestmark = pytest.mark.real

needs_containerd = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")
needs_netns = pytest.mark.skipif(bool(netns.why_not()), reason=netns.why_not() or "it can")
MEND_TRIES = 20


def remains(containerd: Containerd, short: Path) -> list[str]:
    """Return which kinds of things a containerd has left: processes, shims, mounts and so on."""
    mounts = Path("/proc/self/mountinfo").read_text()
    found = {
        "processes": bool(leftovers.processes_in(containerd.cgroup_root)),
        "shims": bool(leftovers.shims(containerd.socket)),
        "mounts": str(short) in mounts,
        "cgroups": any(
            (tree / containerd.cgroup_root.strip("/")).exists() for tree in leftovers.hierarchies()
        ),
        "files": short.exists(),
    }
    return [what for what, is_left in found.items() if is_left]


@needs_containerd
@pytest.mark.parametrize("fate", ["running", "stopped", "dead"])
def test_nothing_is_left_of_a_containerd(fate: str) -> None:
    """Its pods, shims, mounts and cgroups are removed, also when it is paused or dead."""
    with Containerd() as containerd:
        make_pod(containerd.socket, namespace="monitoring", daemonset="telemetry", containers=2)
        make_pod(containerd.socket, namespace="monitoring", daemonset="deaf", ignores_term=True)
        assert set(remains(containerd, containerd.socket.parent)) == {
            "processes",
            "shims",
            "mounts",
            "cgroups",
            "files",
        }
        if fate == "stopped":
            containerd.pause()
        elif fate == "dead":
            containerd.kill()

    assert remains(containerd, containerd.socket.parent) == []


@needs_containerd
def test_pods_go_on_while_their_containerd_restarts() -> None:
    """A restart of containerd does not restart the pods: the process ids stay the same."""
    with Containerd() as containerd:
        pod = make_pod(containerd.socket, namespace="monitoring", daemonset="telemetry")
        before, first = processes_of(pod), containerd.pid

        containerd.restart()

        assert containerd.pid != first
        assert processes_of(pod) == before != ()


@needs_netns
def test_two_hosts_reach_nothing_but_each_other() -> None:
    """Each host has one route, to the other host, and cannot resolve a name (P1)."""
    with netns.Wire() as wire:
        routes = [wire.bastion.run("ip", "route"), wire.node.run("ip", "route")]
        assert [len(text.splitlines()) for text in routes] == [1, 1]
        assert "default" not in "".join(routes)
        assert wire.node.run("cat", "/etc/resolv.conf") == ""
        with pytest.raises(subprocess.CalledProcessError):
            wire.node.run("getent", "hosts", "example.com")
        holders = [wire.bastion.holder, wire.node.holder]

    assert not any(Path(f"/proc/{pid}").exists() for pid in holders)


@needs_netns
def test_the_wire_can_be_cut_and_mended() -> None:
    """A cut drops every packet, as a network failure does, until the wire is mended."""
    with netns.Wire() as wire:
        ask = wire.bastion.command("busybox", "ping", "-c", "1", "-W", "1", wire.node.address)
        wire.cut()
        assert subprocess.run(ask, check=False, capture_output=True).returncode != 0
        wire.mend()
        # An interface that is up again answers only after carrier detection and ARP.
        tries = (subprocess.run(ask, check=False, capture_output=True) for _ in range(MEND_TRIES))
        assert any(one.returncode == 0 for one in tries)
