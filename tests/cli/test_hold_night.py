# SPDX-License-Identifier: Apache-2.0
"""Holds from end to end: pods stopped and kept down, listed, held for longer, released (P6)."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.nodes import PODS, WORKLOAD
from scenarios.bastion import Bastion, Ran
from tests.cli.night import Night

SOON_S = 60.0

pytestmark = pytest.mark.slow


@pytest.fixture
def night(new_bastion: Callable[[], Bastion]) -> Iterator[Night]:
    """Two nodes, each with a kubelet that restarts stopped containers."""
    bastion = new_bastion()
    bastion.init()
    made = Night(bastion)
    try:
        for name in ("n1", "n2"):
            made.add(name)
        yield made
    finally:
        made.close()


def carried_out(night: Night, verb: str, *extra: str, workload: str = WORKLOAD) -> Ran:
    """Draft a command, let two people approve it, deliver it; return how that ended."""
    name, options = f"{verb}-{time.monotonic_ns()}", ("--incident", "INC-1211", *extra)
    file = night.bastion.signed(name, *options, verb=verb, workload=workload)
    return night.bastion.json("run", file, "--yes")


def holds(night: Night) -> list[Any]:
    """Return the holds of all nodes."""
    found: list[Any] = night.bastion.json("holds").json["holds"]
    return found


def running(night: Night) -> list[str]:
    """Return the names of the workload's running pods, on all nodes."""
    pods = night.bastion.json("pods").json["pods"]
    return [
        one["name"]
        for one in pods
        if f"{one['namespace']}/{one['daemonset']}" == WORKLOAD and one["running"]
    ]


def until(is_so: Callable[[], bool]) -> None:
    """Check again and again until a condition holds; fail after `SOON_S`."""
    ends = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < ends, "the condition did not hold in time"


def test_stopped_means_that_it_stays_stopped(night: Night) -> None:
    """Every start fails; the hold says who, why, until when; a release ends it."""
    stopped = carried_out(night, "stop", "--grace", "1s")
    assert stopped.exit == 0, stopped.json["nodes"]
    rows = stopped.json["nodes"]
    assert [(row["state"], row["down"], row["held"]) for row in rows] == [("done", PODS, PODS)] * 2
    assert all(row["gates"] and "watch" not in row["gates"] for row in rows)

    until(lambda: all(hold["attempts"] for hold in holds(night)))
    assert running(night) == []
    found = holds(night)
    assert [hold["node"] for hold in found] == ["n1", "n2"]
    for hold in found:
        assert (hold["workload"], hold["incident"], hold["reason"]) == (
            WORKLOAD,
            "INC-1211",
            "it floods",
        )
        assert (hold["approvals"], hold["command"]) == (["ana", "bo"], stopped.json["id"])
        assert 7_000 < hold["left_s"] <= 7_200
        assert (hold["stops"], hold["leaked_ms"], len(hold["pods"])) == (0, 0, PODS)

    longer = carried_out(night, "extend", "--hold", "4h")
    assert (longer.exit, longer.json["nodes"][0]["state"]) == (0, "extended"), longer.json["nodes"]
    assert all(14_000 < hold["left_s"] <= 14_400 for hold in holds(night))

    let_go = carried_out(night, "release")
    assert (let_go.exit, [row["state"] for row in let_go.json["nodes"]]) == (0, ["released"] * 2)
    assert holds(night) == []
    until(lambda: len(running(night)) == 2 * PODS)

    verified = night.bastion.json("log", "verify").json["nodes"]
    assert [(row["approved"], row["held"]) for row in verified] == [(3, [])] * 2

    again = carried_out(night, "release")
    assert (again.exit, again.json["code"]) == (4, "no-hold")
    assert "breakglass holds" in again.json["hint"]
    assert night.bastion.json("log", "verify").exit == 0


def test_a_hold_outlives_its_agent_and_is_never_an_absence(night: Night) -> None:
    """A node without a running agent is a row; a restarted agent keeps its holds (P5, P6)."""
    stopped = carried_out(night, "stop", "--grace", "1s")
    night.stop("n2")
    away = night.bastion.run("holds")
    assert (away.exit, "did not answer: holds unknown" in away.out) == (5, True)
    assert night.bastion.json("holds").json["nodes"][1]["code"] == "unreached"
    night.start("n2")
    assert [hold["command"] for hold in holds(night)] == [stopped.json["id"]] * 2
    assert running(night) == []
    assert "GATE" in night.bastion.run("outcome", stopped.json["id"]).out
    verified = night.bastion.json("log", "verify").json["nodes"]
    assert [row["held"] for row in verified] == [[stopped.json["id"]]] * 2


def test_only_the_hold_that_is_named_ends(night: Night) -> None:
    """Two holds of one workload end separately; pods stay down until the last has ended."""
    first = carried_out(night, "stop", "--grace", "1s", "--hold", "1h")
    second = carried_out(night, "stop", "--grace", "1s", "--hold", "2h")
    assert second.exit in {0, 4}  # there is nothing left to stop
    assert len(holds(night)) == 4
    assert carried_out(night, "release", "--command", first.json["id"]).exit == 0
    assert {hold["command"] for hold in holds(night)} == {second.json["id"]}
    assert running(night) == []
    assert carried_out(night, "release", "--command", first.json["id"]).json["code"] == "no-hold"


def test_a_hold_for_pods_that_may_come_is_held(night: Night) -> None:
    """A workload without pods now: the row says so, and the hold still begins."""
    ran = carried_out(night, "stop", workload="monitoring/absent")
    assert (ran.exit, ran.json["code"]) == (4, "nothing")
    assert all(row["message"].startswith("0 pods now, held for 2h") for row in ran.json["nodes"])
    assert [(hold["workload"], hold["pods"]) for hold in holds(night)] == [
        ("monitoring/absent", [])
    ] * 2


def test_a_dry_run_tells_what_it_would_do_and_holds_nothing(night: Night) -> None:
    """It names the pods and how long they would be held, and stops nothing."""
    before = sorted(running(night))
    ran = carried_out(night, "stop", "--mode", "dry-run")
    assert (ran.exit, {row["state"] for row in ran.json["nodes"]}) == (0, {"planned"})
    assert all("would stop 2 pods" in row["message"] for row in ran.json["nodes"])
    assert all("for 2h" in row["message"] for row in ran.json["nodes"])
    assert (holds(night), sorted(running(night))) == ([], before)


def test_an_evict_takes_the_sandboxes_down_and_holds(night: Night) -> None:
    """Containers first, then the sandbox of each pod; the outcome records both."""
    ran = carried_out(night, "evict", "--grace", "1s", "--hold", "10m")
    assert ran.exit == 0, ran.json["nodes"]
    pods = night.bastion.json("outcome", ran.json["id"]).json["pods"]
    assert [(pod["seen"], pod["sandbox"]) for pod in pods] == [("down", "down")] * 4
    assert all(hold["left_s"] <= 600 for hold in holds(night))


def test_a_drill_of_a_hold_is_marked_everywhere(night: Night) -> None:
    """`holds` marks it too (P11)."""
    ran = carried_out(night, "stop", "--mode", "drill", "--grace", "1s")
    assert ran.exit == 0
    lines = night.bastion.run("holds").out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["MODE", "DRILL", "DRILL"]
    assert Path(night.bastion.path("home")).is_dir()
