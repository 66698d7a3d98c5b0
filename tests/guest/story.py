# SPDX-License-Identifier: Apache-2.0
"""`make test-v2`: holds on a node with pure cgroup v2, the systemd driver, runc and crun.

Four DaemonSets are stopped with a hold by two approvals, and stay down through everything that a
node goes through, while a real kubelet tries to start them; then each is let go in another way.
Every act asserts what it says: no line of user code, attempts of kubelet that prove the gate was
needed, limits as they were set.  The table at the end has a row for each act, the last line sums
up; the first thing that is not so ends the story with status 1.

Seconds are those of an emulated machine, several times as long as on a real one.
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lab import LabUnavailable
from tests.guest.people import PROGRAM
from tests.guest.world import DAEMONSETS, NAMESPACE, REPOSITORY, World, world

ALL = tuple(DAEMONSETS)
FREE, SHUT = "max", "0"
PIDS = "1000"  # podPidsLimit in kubelet.yaml: what TasksMax was before the hold
_TRIES_S = 400.0
_BACK_S = 300.0
_READY_S = 300.0
_INSTALL = """
install -d -m 0700 /etc/breakglass && cp /stage/extra/bundle/* /etc/breakglass/
chmod 0600 /etc/breakglass/*.key /etc/breakglass/key.pem
cp /stage/extra/systemd/breakglass-agent.service /stage/extra/systemd/breakglass.slice\
 /etc/systemd/system/
systemctl daemon-reload && systemctl enable --now breakglass-agent
"""
_WHY = "journalctl -u breakglass-agent -o cat --no-pager | tail -40; systemctl --failed"
_ACTIVE = "systemctl is-active --quiet breakglass-agent"
_FAILED = """
systemctl list-units --all --state=failed --plain --no-legend 'cri-containerd-*' |
while read -r scope _; do systemctl show -P Slice $scope; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One act of the story: what happened, how long it took, what was seen of user code."""

    act: str
    seconds: float
    attempts: int
    seen: str


class Story:
    """The acts, in their order, and what has been seen so far."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._guest, self._plane, self._people = world.guest, world.plane, world.people
        self._free: set[str] = set()
        self._held: list[str] = []
        self._quiet: dict[str, int] = {}
        self.rows: list[Row] = []

    # --- before ----------------------------------------------------------------------------

    def install_the_agent(self) -> None:
        """The agent as a node has it: this project's own unit, ready when it says so."""
        self._guest.run(_INSTALL)
        say(self._guest.run(f"{PROGRAM} describe").stdout)

    def stop_without_hold(self) -> None:
        """The control: what is only stopped comes back, so a kubelet is at work here."""
        began = time.monotonic()
        self._submit("stop", ALL[0], "--hold", "0s", "--grace", "1s")
        back = self._world.wait_for_lines(ALL[:1], timeout_s=_BACK_S)[ALL[0]]
        self._row("a stop without hold: user code is back", began, seen=f"back after {back:.1f} s")

    # --- held ------------------------------------------------------------------------------

    def hold_all(self) -> None:
        """Two approvals each; the first by mTLS, the others by ssh; nothing of them runs after."""
        for number, name in enumerate(ALL):
            command = self._people.signed(
                "stop", f"{NAMESPACE}/{name}", "--hold", "6h", "--grace", "1s"
            )
            began = time.monotonic()
            if number:
                self._people.submit(self._guest, command)
            else:
                self._people.run(command)
            took = time.monotonic() - began
            self._quiet[name] = self._world.look().lines[name]
            self._held.append(name)
            road = "ssh" if number else "mTLS"
            self._row(f"{name}: stop with a hold, by {road}", began, seen=f"down in {took:.1f} s")

    def stays_down(
        self, act: str, cause: Callable[[], object], *, tries: int = 1, sandboxes: int = 0
    ) -> None:
        """Cause something, and watch until kubelet has tried so often for each DaemonSet.

        Args:
            act: its name.
            cause: what happens.
            tries: how often kubelet has to try.
            sandboxes: how often it has to try to make a whole new sandbox.
        """
        began, before = time.monotonic(), self._world.look()
        cause()
        while True:
            now = self._world.look()
            ran = {name: now.lines[name] - self._quiet[name] for name in self._held}
            assert not any(ran.values()), f"{act}: user code ran: {ran}"
            tried = [now.attempts[name] - before.attempts[name] for name in self._held]
            made = [now.sandboxes[name] - before.sandboxes[name] for name in self._held]
            if min(tried) >= tries and min(made) >= sandboxes:
                break
            late = time.monotonic() - began > _TRIES_S
            assert not late, (
                f"{act}: expected {tries} attempts for each of {self._held}, got {tried}"
            )
        open_now = {
            name for name, gate in now.gates.items() if gate.descendants != SHUT
        } - self._free
        assert not open_now, f"{act}: expected a gate on every pod held, got none on {open_now}"
        self._row(act, began, attempts=sum(tried))

    def see_what_holds(self) -> None:
        """The agent's own account: a hold for each workload, its gate, what it has blocked."""
        holds = self._holds()
        assert {hold["workload"] for hold in holds} == {f"{NAMESPACE}/{one}" for one in self._held}
        for hold in holds:
            assert [pod["gate"] for pod in hold["pods"]] == ["descendants"], hold
            assert (hold["stops"], hold["leaked_ms"]) == (0, 0), hold
            assert hold["attempts"] > 0, hold
            blocked = f"{hold['attempts']} attempts blocked, {hold['resets']} limits set again"
            say(f"  {hold['workload']}: held by descendants, {blocked}")

    def see_what_crun_left(self) -> None:
        """Failed scopes: the agent resets them now and then, and there are new ones."""
        end = time.monotonic() + _TRIES_S
        while not self._failed_scopes():
            assert time.monotonic() < end, "expected crun to leave failed scopes"

    def new_pods(self) -> None:
        """Delete every pod; the controller makes new ones, gated at birth."""
        old = self._uids()
        self._plane.kubectl("delete", "pods", "--all", f"-n{NAMESPACE}", "--wait", "--timeout=110s")
        end = time.monotonic() + _READY_S
        while len(self._uids() - old) < len(ALL):
            assert time.monotonic() < end, "expected a new pod of each DaemonSet"

    def reboot(self) -> None:
        """Restart the node; what was held is held before its pods can start."""
        say(f"  up again after {self._guest.reboot():.0f} s")
        self._guest.wait_until(_ACTIVE, timeout_s=_READY_S)

    # --- let go ----------------------------------------------------------------------------

    def release(self, name: str) -> None:
        """Let one go by a signed release; the others stay down."""
        began = time.monotonic()
        self._submit("release", name)
        self._is_back(f"{name}: signed release", (name,), began)

    def by_shell(self) -> None:
        """The way out that needs no agent: the runbook's own lines."""
        began = time.monotonic()
        self._guest.run("systemctl stop breakglass-agent")
        say(self._guest.run(_runbook_lines()).stdout)
        self._free |= set(self._world.look().gates)
        back = max(self._world.wait_for_lines(tuple(self._held), timeout_s=_BACK_S).values())
        self._row("the runbook's lines, agent stopped", began, seen=f"back {back:.1f} s later")

    def again(self) -> None:
        """The agent is started again: its leases still run, and hold again."""
        began = time.monotonic()
        self._guest.run("systemctl start breakglass-agent")
        self._free -= {one for name in self._held for one in self._world.slices(name)}
        quiet = self._world.look()
        while True:
            now = self._world.look()
            if all(now.lines[name] == quiet.lines[name] for name in self._held):
                break
            quiet = now
            assert time.monotonic() - began < _READY_S, "expected the holds to stand again"
        self._quiet = dict(now.lines)
        self._row("agent started again: its leases hold", began, seen="down again")

    def release_all(self) -> None:
        """The agent's own way out, with the agent stopped."""
        began = time.monotonic()
        self._guest.run("systemctl stop breakglass-agent")
        said = self._guest.run(f"{PROGRAM} release-all --config /etc/breakglass/agent.toml").stdout
        say(said)
        self._is_back("release-all, agent stopped", tuple(self._held), began)
        self._guest.run("systemctl start breakglass-agent")

    def nothing_is_left(self) -> None:
        """Every pod runs, every limit is what it was, and systemd has nothing to complain of."""
        began = time.monotonic()
        self._world.wait_for_lines(ALL, timeout_s=_BACK_S)
        look = self._world.look()
        assert {gate.descendants for gate in look.gates.values()} == {FREE}, look.gates
        assert self._failed_scopes() == []
        state = self._guest.run("systemctl is-system-running", check=False).stdout.strip()
        assert state == "running", self._guest.run("systemctl --failed --no-legend").stdout
        assert self._holds() == []
        self._row("after all: every pod runs, nothing is left", began, seen="runs")

    # --- parts -----------------------------------------------------------------------------

    def _submit(self, verb: str, name: str, *options: str) -> str:
        command = self._people.signed(verb, f"{NAMESPACE}/{name}", *options)
        said = self._people.submit(self._guest, command)
        say(said)
        return said

    def _holds(self) -> list[dict[str, Any]]:
        told = json.loads(self._people.breakglass("--output", "json", "holds"))
        return list(told["holds"])

    def _uids(self) -> set[str]:
        words = ("get", "pods", f"-n{NAMESPACE}", "-ojsonpath={.items[*].metadata.uid}")
        return set(self._plane.kubectl(*words).split())

    def _is_back(self, act: str, names: tuple[str, ...], began: float) -> None:
        """Wait for the code of what was let go; its limits are then what they were."""
        self._held = [name for name in self._held if name not in names]
        slices = [one for name in names for one in self._world.slices(name)]
        self._free |= set(slices)
        back = self._world.wait_for_lines(names, timeout_s=_BACK_S)
        look = self._world.look()
        for one in slices:
            assert look.gates[one].descendants == FREE, (one, look.gates[one])
            limit = self._guest.run(f"systemctl show -P TasksMax {one}").stdout.strip()
            assert limit == PIDS == look.gates[one].pids, (one, limit, look.gates[one])
            # crun leaves one for each attempt: those of this pod are reset, not those of others.
            assert one not in self._failed_scopes(), one
        ran = {held: look.lines[held] - self._quiet[held] for held in self._held}
        assert not any(ran.values()), f"{act}: user code ran: {ran}"
        self._row(act, began, seen=f"back {max(back.values()):.1f} s later")

    def _failed_scopes(self) -> list[str]:
        """Return the slice of each failed scope of a container."""
        return self._guest.run(_FAILED).stdout.split()

    def _row(self, act: str, began: float, *, attempts: int = 0, seen: str = "0 lines") -> None:
        row = Row(act=act, seconds=time.monotonic() - began, attempts=attempts, seen=seen)
        self.rows.append(row)
        say(f"== {act}: {row.seconds:.0f} s, {attempts} attempts, {seen}")


def _runbook_lines() -> str:
    """Return the block of the runbook that opens every gate of a node."""
    text = (REPOSITORY / "docs/runbooks/let-go.md").read_text()
    (block,) = re.findall(r"```sh\n(find .*?)```", text, re.DOTALL)
    return str(block)


def tell(story: Story) -> None:
    """Print the acts as the table of docs/cgroup-v2.md, and sum up."""
    say("\n| act | seconds | attempts blocked | user code |\n|---|---|---|---|")
    for row in story.rows:
        say(f"| {row.act} | {row.seconds:.0f} | {row.attempts} | {row.seen} |")


def play(story: Story, world: World) -> None:
    """Play every act."""
    guest, plane = world.guest, world.plane
    story.install_the_agent()
    story.stop_without_hold()
    story.hold_all()
    story.stays_down("kubelet tries", lambda: None, tries=3)
    servers = ("kube-apiserver", "etcd")
    kill = "systemctl kill --signal=KILL"
    # With the API server dead a kubelet that starts knows of no pods, and would try nothing.
    story.stays_down("kubelet killed", partial(guest.run, f"{kill} kubelet"))
    story.stays_down("API server and etcd killed", lambda: plane.kill(*servers), tries=8)
    for act, command in (
        ("containerd restarted", "systemctl restart containerd"),
        ("containerd killed", f"{kill} --kill-whom=main containerd"),
        ("agent killed", f"{kill} breakglass-agent"),
        ("systemctl daemon-reload", "systemctl daemon-reload"),
        ("systemctl daemon-reexec", "systemctl daemon-reexec"),
        ("agent stopped", "systemctl stop breakglass-agent"),
    ):
        story.stays_down(act, partial(guest.run, command))
    guest.run("systemctl start breakglass-agent")
    story.stays_down("API server back", lambda: plane.start(*reversed(servers)))
    story.stays_down(
        "pause killed, slices empty", lambda: guest.run("pkill -KILL -x pause"), sandboxes=2
    )
    story.stays_down("pods deleted, made anew", story.new_pods, sandboxes=2)
    story.stays_down("the node rebooted", story.reboot)
    story.see_what_holds()
    story.see_what_crun_left()
    story.release("telemetry-burstable")
    story.release("telemetry-burstable-crun")
    story.by_shell()
    story.again()
    story.stays_down("held again", lambda: None)
    story.release_all()
    story.nothing_is_left()


def say(text: str) -> None:
    """Print a part of the story."""
    print(text.rstrip(), flush=True)


def main() -> int:
    """Tell the whole story; return the exit status."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bg-v2-", dir="/tmp") as folder:
        try:
            with world(Path(folder)) as made:
                say(f"up after {time.monotonic() - began:.0f} s")
                story = Story(made)
                try:
                    play(story, made)
                except BaseException:
                    say(made.guest.run(_WHY, check=False).stdout)
                    raise
                finally:
                    tell(story)
        except LabUnavailable as error:
            say(f"test-v2: not played: {error}")
            return 2
    attempts = sum(row.attempts for row in story.rows)
    say(
        f"test-v2: passed: {len(story.rows)} acts, {attempts} attempts of kubelet blocked,"
        f" 0 lines of user code while held, {time.monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
