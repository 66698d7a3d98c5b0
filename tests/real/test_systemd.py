# SPDX-License-Identifier: Apache-2.0
"""The systemd unit: it verifies without warnings, has a low exposure, and starts for real.

The machine that starts it has a simulated container runtime, whose socket belongs to root as a real
one's does.  A separate test runs an agent with the unit's capabilities over a real containerd.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from breakglass.core.entries import Finished, parse_entry
from lab import LabUnavailable, containerd, nspawn
from lab.containerd import Containerd
from lab.nspawn import Machine
from lab.pods import make_pod, processes_of
from scenarios.bastion import WORKLOAD, Bastion
from tests.support.agent_process import AgentProcess, NodeFiles, Tls
from tests.support.organisation import Organisation

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("breakglass-agent.service", "breakglass.slice")
PROGRAM = "/opt/breakglass/bin/breakglass-agent"
ACTIVE = "systemctl is-active breakglass-agent"
RECORDED_SCORE = 2.4
JOURNAL = "journalctl -u breakglass-agent -o cat --no-pager"
CAP_KILL = 5  # capabilities(7), linux/capability.h  # and in docs/systemd.md

pytestmark = pytest.mark.real

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a root folder with our units, this machine's units, and a program for ExecStart."""
    for folder in ("/usr/lib/systemd/system", "/lib/systemd/system"):
        if Path(folder).is_dir():
            shutil.copytree(folder, tmp_path / "usr/lib/systemd/system", symlinks=True)
            break
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(ROOT / "systemd" / unit, tmp_path / "etc/systemd/system")
    program = tmp_path / PROGRAM.lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def _analyze(verb: str, tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ("systemd-analyze", verb, f"--root={tree}", "--no-pager", *arguments),
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _complaints(tree: Path) -> list[str]:
    done = _analyze("verify", tree, *UNITS)
    ours = [line for line in done.stdout.splitlines() if "breakglass" in line]
    return ours or [done.stdout] * bool(done.returncode)


@needs_analyze
def test_systemd_analyze_has_no_warning_for_the_units(tree: Path) -> None:
    """There is no unknown key, no missing program and no ordering cycle."""
    assert _complaints(tree) == []


@needs_analyze
def test_a_misspelt_key_is_a_warning(tree: Path) -> None:
    """Systemd warns of an unknown key and exits with 0, so the test above must read warnings."""
    unit = tree / "etc/systemd/system" / UNITS[0]
    unit.write_text(unit.read_text().replace("ProtectClock=", "ProtectClocks="))

    assert any("Unknown key" in line for line in _complaints(tree))


@needs_analyze
def test_the_exposure_is_at_most_the_recorded_one(tree: Path) -> None:
    """The unit has no more rights than docs/systemd.md says."""
    done = _analyze(
        "security", tree, "--offline=yes", f"--threshold={RECORDED_SCORE * 10:.0f}", UNITS[0]
    )

    assert done.returncode == 0, done.stdout
    assert f"**{RECORDED_SCORE}**" in (ROOT / "docs/systemd.md").read_text()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
@pytest.mark.skipif(bool(containerd.why_not()), reason=containerd.why_not() or "it can")
def test_a_root_with_one_capability_stops_pods_of_a_real_containerd(tmp_path: Path) -> None:
    """With the unit's capabilities the agent can use the runtime and the kernel."""
    bare = (
        *("--bounding-set=-all,+kill", "--inh-caps=-all,+kill", "--ambient-caps=+kill"),
        *("--no-new-privs", "--securebits=+noroot"),
    )
    tls = Tls.make()
    people = Organisation(couriers=tls.pins, now=datetime.now(UTC).replace(microsecond=0))
    with Containerd(tmp_path / "lab") as runtime:
        files = NodeFiles(
            folder=tmp_path / "n", organisation=people, tls=tls, runtime=runtime.socket
        ).write()
        pod = make_pod(runtime.socket, namespace="monitoring", daemonset="telemetry")
        with AgentProcess(files, prefix=("setpriv", *bare)).wait_ready() as agent:
            status = Path(f"/proc/{agent.process.pid}/status").read_text()
            assert (
                re.findall(r"Cap(?:Prm|Eff|Bnd):\s*(\S+)", status) == [f"{1 << CAP_KILL:016x}"] * 3
            )
            with agent.local() as client:
                command = people.command(workload=WORKLOAD, hold_s=3600)
                progress = client.submit(people.signed(command, "ana bo"))
        body = parse_entry(progress[-1].finished.entry).body
        assert isinstance(body, Finished)
        assert (body.result, body.held, processes_of(pod)) == ("done", 1, ())


def _readme_commands() -> list[str]:
    section = (ROOT / "README.md").read_text().partition("\n## Install it on a node\n")[2]
    return section.partition("```sh\n")[2].partition("\n```")[0].splitlines()


def _make_bundle(folder: Path) -> None:
    """Make a home, a node's bundle and a command with two approvals, only by the CLI."""
    bastion = Bastion(folder)
    bastion.make_keys()
    bastion.init()
    bastion.add_node("n1", "127.0.0.1")
    bastion.write_bundle("n1", folder / "n1")
    bastion.signed("stop.cmd", "--incident", "INC-1")


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Return the folder with the socket of a simulated runtime, which another process serves."""
    with tempfile.TemporaryDirectory(prefix="bg-") as short:
        socket = Path(short) / "containerd.sock"
        process = subprocess.Popen(
            (sys.executable, "-m", "lab.sim.node", str(socket), WORKLOAD, "2", "1"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Path(short)
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture
def machine(tmp_path: Path, runtime: Path) -> Iterator[Machine]:
    """Return a booted machine with everything to install: wheels, units and a bundle."""
    try:
        prepared = nspawn.prepared()
        shutil.copytree(nspawn.wheels(nspawn.python_version(prepared)), tmp_path / "wheels")
        nspawn.make_own_wheel(tmp_path / "wheels")
        shutil.copytree(ROOT / "systemd", tmp_path / "systemd")
        _make_bundle(tmp_path)
        with Machine(prepared, stage=tmp_path, runtime=runtime) as booted:
            yield booted
    except LabUnavailable as error:
        pytest.skip(str(error))


def _main_pid(machine: Machine) -> int:
    return int(machine.run("systemctl show -P MainPID breakglass-agent").stdout)


@pytest.mark.slow
def test_four_commands_install_a_running_agent(machine: Machine) -> None:
    """With README's commands the agent starts, is hardened, restarts after a kill, and stops."""
    commands = _readme_commands()
    assert len(commands) == 4
    for command in commands:
        machine.run(command)

    # `enable --now` has returned, so systemd got READY=1; only root can reach the agent's socket.
    assert machine.run(ACTIVE).stdout == "active\n"
    assert "trust 1" in machine.run("systemctl show -P StatusText breakglass-agent").stdout
    assert "node: n1" in machine.run(f"{PROGRAM} describe").stdout
    assert "is good" in machine.run(f"{PROGRAM} check-config").stdout
    assert (
        machine.run("stat -c %a /run/breakglass /run/breakglass/agent.sock").stdout == "700\n600\n"
    )

    pid = _main_pid(machine)
    status = machine.run(f"cat /proc/{pid}/status").stdout
    assert re.findall(r"Cap(?:Prm|Eff|Bnd):\s*(\S+)", status) == [f"{1 << CAP_KILL:016x}"] * 3
    assert re.findall(r"(?:NoNewPrivs|Seccomp):\s*(\d)", status) == ["1", "2"]
    assert "/breakglass.slice/" in machine.run(f"cat /proc/{pid}/cgroup").stdout

    machine.run(f"{PROGRAM} submit < stop.cmd")

    machine.run(f"kill -9 {pid}")
    machine.wait_until(f"{ACTIVE} && test $(systemctl show -P NRestarts breakglass-agent) = 1")
    assert _main_pid(machine) != pid
    assert "node: n1" in machine.run(f"{PROGRAM} describe").stdout

    machine.run("systemctl stop breakglass-agent")
    # systemctl returns before the journal has the last lines.
    machine.wait_until(f"{JOURNAL} | grep -q 'Deactivated successfully'")
    assert '"event": "stopped"' in machine.run(JOURNAL).stdout
    assert machine.run("systemctl show -P Result breakglass-agent").stdout == "success\n"


@pytest.mark.slow
def test_the_agent_waits_for_nothing_that_can_be_down(machine: Machine) -> None:
    """Systemd's resulting dependencies name only file systems, the journal and slices."""
    machine.run(f"{_readme_commands()[2]} && systemctl daemon-reload")

    shown = machine.run("systemctl show -p After -p Wants -p Requires -p BindsTo breakglass-agent")
    named = {unit for line in shown.stdout.splitlines() for unit in line.split("=", 1)[1].split()}
    assert "breakglass.slice" in named
    harmless = re.compile(r".*\.(mount|slice)|systemd-remount-fs.service|systemd-journald.socket")
    assert [unit for unit in named if not harmless.fullmatch(unit)] == []


@pytest.mark.slow
def test_the_optional_files_for_packages_work(machine: Machine) -> None:
    """They make the group, and folders that only root can read."""
    machine.run("systemd-sysusers $PWD/systemd/breakglass.sysusers")
    assert machine.run("getent group breakglass").stdout.startswith("breakglass:")
    machine.run("systemd-tmpfiles --create $PWD/systemd/breakglass.tmpfiles")
    assert machine.run("stat -c %a /etc/breakglass /var/lib/breakglass").stdout == "700\n700\n"
