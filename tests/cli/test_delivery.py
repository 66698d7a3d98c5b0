# SPDX-License-Identifier: Apache-2.0
"""Delivery from end to end: real agents over simulated runtimes, reached over mTLS on loopback."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.nodes import WORKLOAD
from scenarios.bastion import AGENT, BREAKGLASS, Bastion
from tests.cli.conftest import on_terminal
from tests.cli.night import Night

READY_S = 60.0
PATIENT = (sys.executable, "-m", "tests.support.patient_bastion")


@pytest.fixture
def night(new_bastion: Callable[[], Bastion]) -> Iterator[Night]:
    """Two nodes."""
    bastion = new_bastion()
    bastion.init()
    made = Night(bastion)
    try:
        for name in ("n1", "n2"):
            made.add(name)
        yield made
    finally:
        made.close()


@pytest.mark.slow
def test_the_whole_night(night: Night) -> None:
    """Pods are listed, stopped and seen down; outcomes are recorded, logs verify (P4, P5, P7)."""
    bastion = night.bastion
    pods = bastion.json("pods").json["pods"]
    running = [one for one in pods if f"{one['namespace']}/{one['daemonset']}" == WORKLOAD]
    assert {one["node"] for one in running} == {"n1", "n2"}

    file = night.approved()
    ran = bastion.json("run", file, "--yes")
    assert ran.exit == 0, ran.err
    assert [(row["node"], row["state"], row["evidence"]) for row in ran.json["nodes"]] == [
        ("n1", "done", "verified"),
        ("n2", "done", "verified"),
    ]
    assert sum(row["down"] for row in ran.json["nodes"]) == len(running)

    again = bastion.json("run", file, "--yes")
    assert (again.exit, [row["repeated"] for row in again.json["nodes"]]) == (0, [True, True])

    outcome = bastion.json("outcome", ran.json["id"])
    assert outcome.exit == 0
    assert {pod["name"] for pod in outcome.json["pods"]} == {one["name"] for one in running}
    assert "seen down" in bastion.run("outcome", ran.json["id"]).out

    unknown = bastion.json("outcome", "01a1fc9c-8d29-7572-aaf2-402d4871c76c")
    assert (unknown.exit, unknown.json["code"]) == (4, "not-on-record")

    logs = bastion.json("log", "verify")
    assert logs.exit == 0
    assert [(row["state"], row["approved"]) for row in logs.json["nodes"]] == [("verified", 1)] * 2
    assert bastion.run("log", "verify", "n2").out.count("verified") == 2


@pytest.mark.slow
def test_on_a_terminal_a_person_is_asked_and_sees_it_move(night: Night) -> None:
    """The question comes before the delivery; the progress and then the table come after it."""
    file = night.approved()
    command = ("run", file)
    status, said = on_terminal(night.bastion, *command, answers=(("[y/N]", "n\n"),))
    assert (status, "[declined]" in said, "verified" in said) == (130, True, False)
    status, said = on_terminal(night.bastion, *command, answers=(("[y/N]", "y\n"),))
    assert status == 0, said
    assert "2/2" in said
    assert "2 nodes: 2 done" in said
    night.stop("n2")
    status, said = on_terminal(night.bastion, "run", file, "--yes", answers=())
    assert status == 5, said
    assert "n2: unreached" in said


@pytest.mark.slow
def test_a_drill_is_marked_in_every_line(night: Night) -> None:
    """Each line of a drill says DRILL, so that no person takes it for an emergency (P11)."""
    ran = night.bastion.run("run", night.approved("--mode", "drill"), "--yes")
    assert ran.exit == 0
    progress = [line for line in ran.err.splitlines() if "accepted" in line or "down" in line]
    assert progress
    assert all(line.startswith("DRILL ") for line in progress)
    assert all(line.startswith(("DRILL", "MODE")) for line in ran.out.splitlines())


@pytest.mark.slow
def test_what_is_not_done_or_not_reached_has_its_own_status(night: Night) -> None:
    """5 for an unreached node, 4 for one without such pods, 4 before 5, a row for each (P5)."""
    bastion = night.bastion
    night.stop("n2")
    ran = bastion.json("run", night.approved(), "--yes")
    assert (ran.exit, ran.json["code"]) == (5, "unreached")
    assert [row["state"] for row in ran.json["nodes"]] == ["done", "unreached"]
    assert bastion.json("pods").exit == 5
    assert bastion.json("log", "verify").exit == 5

    file = bastion.path("none")
    drafted = bastion.run(
        "draft", "stop", "monitoring/absent", "--cluster", "prod-a", "--reason", "r", "-o", file
    )
    assert drafted.exit == 0
    for person in ("ana", "bo"):
        bastion.approve(file, person)
    ran = bastion.json("run", file, "--yes")
    assert ran.exit == 4
    assert [row["state"] for row in ran.json["nodes"]] == ["nothing", "unreached"]

    night.start("n2")
    late = bastion.json("run", bastion.path("cmd"), "--yes")
    assert (late.exit, [row["repeated"] for row in late.json["nodes"]]) == (0, [True, False])


@pytest.mark.slow
def test_a_node_that_refuses_is_told_with_its_reason(night: Night) -> None:
    """A workload that its owner protects stays up; exit 3 if every node refuses (P8)."""
    bastion = night.bastion
    for name in ("n1", "n2"):
        night.stop(name)
        config = night.config(name)
        config.write_text(
            config.read_text().replace("workloads = [", f'workloads = [\n"{WORKLOAD}",')
        )
        night.start(name)
    ran = bastion.json("run", night.approved(), "--yes")
    assert (ran.exit, ran.json["code"]) == (3, "protected")
    assert bastion.json("log", "verify").exit == 0


@pytest.mark.slow
def test_the_nodes_own_socket_is_a_road_too(night: Night) -> None:
    """`breakglass-agent submit < file` on the node: same bytes, same verdict (P10)."""
    file = Path(night.approved())
    config = str(night.config("n1"))

    def agent(*arguments: str, raw: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [*AGENT, *arguments, "--config", config]
        return subprocess.run(command, input=raw, capture_output=True, check=False)

    short = agent("submit", raw=file.read_bytes().split(b"-----BEGIN")[0])
    assert (short.returncode, b"[unsigned]" in short.stderr) == (3, True)
    done = agent("submit", raw=file.read_bytes().replace(b"\n", b"\r\n"))
    assert done.returncode == 0, done.stderr
    assert b"finished: done" in done.stdout
    assert agent("describe").stdout.count(b"n1") >= 1
    checked = agent("check-config")
    assert (checked.returncode, b"is good" in checked.stdout) == (0, True)
    empty = agent("submit", raw=b"")
    assert (empty.returncode, b"[empty-input]" in empty.stderr) == (2, True)
    night.stop("n1")
    away = agent("describe")
    assert (away.returncode, b"[unreached]" in away.stderr) == (5, True)


@pytest.mark.slow
def test_an_interrupted_watch_leaves_the_nodes_to_it(night: Night) -> None:
    """Ctrl-C ends `run` with 130 and a row for every node (P7)."""
    file = night.approved("--grace", "20s")
    agent = night.agents["n1"].pid
    os.kill(agent, signal.SIGSTOP)  # it accepts connections and answers nothing
    try:
        # The bounds of `run` itself must not race against the answer of n2 and the signal.
        run = subprocess.Popen(
            [*PATIENT, *night.bastion.command("run", file, "--yes")[len(BREAKGLASS) :]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stderr is not None
        assert any(line.startswith("n2: done") for line in run.stderr)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=READY_S)
    finally:
        os.kill(agent, signal.SIGCONT)
    assert run.returncode == 130
    assert "[interrupted]" in err
    assert re.search(r"n1 +prod-a +unreached", out)
    assert re.search(r"n2 +prod-a +done", out)
