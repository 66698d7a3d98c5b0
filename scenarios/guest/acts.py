# SPDX-License-Identifier: Apache-2.0
"""The acts of `make test-v2`, which `python -m scenarios.guest` plays in order.

Each act checks that no user code wrote a line, that kubelet tried (so the gate was tested), and
that the limits are set.  The first failed check raises `StoryFailed`.  The rows are the table of
docs/cgroup-v2.md.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scenarios.guest.look import NAMESPACE, Look
from scenarios.guest.world import DAEMONSETS, PROGRAM, REPOSITORY, World
from scenarios.stage import Stage, require

ALL = tuple(DAEMONSETS)
FREE, SHUT = "max", "0"
PIDS = "1000"  # podPidsLimit in kubelet.yaml, and so TasksMax before the hold
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
_ACTIVE = "systemctl is-active --quiet breakglass-agent"
_FAILED = """
systemctl list-units --all --state=failed --plain --no-legend 'cri-containerd-*' |
while read -r scope _; do systemctl show -P Slice $scope; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One act: its title, its seconds, kubelet's attempts, and what user code did."""

    act: str
    seconds: float
    attempts: int
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An act in progress, and when it began on the monotonic clock."""

    act: str
    at: float


class GuestStory:
    """The acts, and what is known so far of the four held DaemonSets."""

    def __init__(self, world: World, stage: Stage) -> None:
        self._world, self._stage = world, stage
        self._guest, self._plane = world.guest, world.plane
        self._free: set[str] = set()
        self._held: list[str] = []
        self._quiet: dict[str, int] = {}
        self.rows: list[Row] = []

    # --- before the hold -------------------------------------------------------------------

    def install_the_agent(self) -> None:
        """Install the agent with the project's own systemd unit, which waits until it is ready."""
        self._stage.act("The agent is installed")
        self._guest.run(_INSTALL)
        self._stage.quote(self._guest.run(f"{PROGRAM} describe").stdout)

    def stop_without_hold(self) -> None:
        """Stop without a hold: kubelet restarts the pod, which proves that kubelet is working."""
        began = self._begin("a stop without hold: user code is back")
        self._submit("stop", ALL[0], "--hold", "0s", "--grace", "1s")
        back = self._world.wait_for_lines(ALL[:1], timeout_s=_BACK_S)[ALL[0]]
        self._end(began, seen=f"back after {back:.1f} s")

    # --- while held ------------------------------------------------------------------------

    def hold_all(self) -> None:
        """Stop and hold each DaemonSet: deliver the first command by mTLS, the others by ssh."""
        for number, name in enumerate(ALL):
            command = self._world.signed("stop", name, "--hold", "6h", "--grace", "1s")
            road = "ssh" if number else "mTLS"
            began = self._begin(f"{name}: stop with a hold, by {road}")
            if number:
                self._world.submit(command)
            else:
                self._world.bastion.breakglass("run", command, "--yes")
            took = time.monotonic() - began.at
            self._quiet[name] = self._world.look().lines[name]
            self._held.append(name)
            self._end(began, seen=f"down in {took:.1f} s")

    def stays_down(
        self, act: str, cause: Callable[[], object], *, tries: int = 1, sandboxes: int = 0
    ) -> None:
        """Call `cause`, then watch until kubelet has tried often enough for each DaemonSet.

        Args:
            act: the act's title.
            cause: the event that the hold must survive.
            tries: the number of attempts that kubelet must make.
            sandboxes: the number of attempts to make a new sandbox.

        Raises:
            StoryFailed: user code ran, kubelet tried too seldom, or a pod has no gate.
        """
        began, before = self._begin(act), self._world.look()
        cause()
        while True:
            now = self._world.look()
            self._require_quiet(act, now)
            tried = [now.attempts[name] - before.attempts[name] for name in self._held]
            made = [now.sandboxes[name] - before.sandboxes[name] for name in self._held]
            if min(tried) >= tries and min(made) >= sandboxes:
                break
            late = time.monotonic() - began.at > _TRIES_S
            wanted = f"{tries} attempts and {sandboxes} sandboxes for each of {self._held}"
            require(not late, f"{act}: expected {wanted}, got {tried} and {made}")
        not_shut = {name for name, gate in now.gates.items() if gate.descendants != SHUT}
        not_shut -= self._free
        require(not not_shut, f"{act}: expected a gate on every pod held, got none on {not_shut}")
        self._end(began, attempts=sum(tried))

    def see_what_holds(self) -> None:
        """Check what the agent reports: each workload's hold, gate and blocked attempts."""
        self._stage.act("What the agent reports about its holds")
        holds = self._holds()
        found = {hold["workload"] for hold in holds}
        wanted = {f"{NAMESPACE}/{one}" for one in self._held}
        require(found == wanted, f"expected holds of {wanted}, got {found}")
        for hold in holds:
            gates = [pod["gate"] for pod in hold["pods"]]
            require(gates == ["descendants"], f"expected one pod, held by descendants, got {hold}")
            leaked = (hold["stops"], hold["leaked_ms"])
            require(leaked == (0, 0), f"expected no stop and no leak, got {hold}")
            require(hold["attempts"] > 0, f"expected attempts, got {hold}")
            blocked = f"{hold['attempts']} attempts blocked, {hold['resets']} limits set again"
            self._stage.say(f"{hold['workload']}: held by descendants, {blocked}")

    def see_what_crun_left(self) -> None:
        """Wait until crun has left failed scopes; the agent resets them from time to time."""
        self._stage.wait_until("failed scopes of crun", self._failed_scopes, _TRIES_S)

    def new_pods(self) -> None:
        """Delete every pod; the controller makes new ones, and the agent gates them at once."""
        old = self._uids()
        self._plane.kubectl("delete", "pods", "--all", f"-n{NAMESPACE}", "--wait", "--timeout=110s")
        self._stage.wait_until(
            "a new pod of each DaemonSet", lambda: len(self._uids() - old) >= len(ALL), _READY_S
        )

    def reboot(self) -> None:
        """Reboot the node; the agent must hold the pods again before they can start."""
        self._stage.say(f"the node answers again after {self._guest.reboot():.0f} s")
        self._guest.wait_until(_ACTIVE, timeout_s=_READY_S)

    # --- released --------------------------------------------------------------------------

    def release(self, name: str) -> None:
        """Release one DaemonSet by a signed command; the others must stay down."""
        began = self._begin(f"{name}: signed release")
        self._submit("release", name)
        self._require_back((name,), began)

    def by_shell(self) -> None:
        """Open every gate with the runbook's shell commands, while the agent is stopped."""
        began = self._begin("the runbook's lines, agent stopped")
        self._guest.run("systemctl stop breakglass-agent")
        self._stage.quote(self._guest.run(_runbook_lines()).stdout)
        self._free |= set(self._world.look().gates)
        back = max(self._world.wait_for_lines(tuple(self._held), timeout_s=_BACK_S).values())
        self._end(began, seen=f"back {back:.1f} s later")

    def again(self) -> None:
        """Start the agent again: its leases have not ended, so it holds the pods again."""
        began = self._begin("agent started again: its leases hold")
        self._guest.run("systemctl start breakglass-agent")
        self._free -= {one for name in self._held for one in self._world.slices(name)}
        quiet = self._world.look()
        while True:
            now = self._world.look()
            if all(now.lines[name] == quiet.lines[name] for name in self._held):
                break
            quiet = now
            late = time.monotonic() - began.at > _READY_S
            require(not late, f"user code still runs {_READY_S:.0f} s after the start: {now.lines}")
        self._quiet = dict(now.lines)
        self._end(began, seen="down again")

    def release_all(self) -> None:
        """Run `breakglass-agent release-all`, while the agent is stopped."""
        began = self._begin("release-all, agent stopped")
        self._guest.run("systemctl stop breakglass-agent")
        command = f"{PROGRAM} release-all --config /etc/breakglass/agent.toml"
        self._stage.quote(self._guest.run(command).stdout)
        self._require_back(tuple(self._held), began)
        self._guest.run("systemctl start breakglass-agent")

    def nothing_is_left(self) -> None:
        """Check that every pod runs, limits are restored, and systemd reports no failed unit."""
        began = self._begin("after all: every pod runs, nothing is left")
        self._world.wait_for_lines(ALL, timeout_s=_BACK_S)
        gates = self._world.look().gates
        limits = {gate.descendants for gate in gates.values()}
        require(limits == {FREE}, f"expected no limit on any pod, got {gates}")
        failed = self._failed_scopes()
        require(not failed, f"expected no failed scope, got some in {failed}")
        state = self._guest.run("systemctl is-system-running; systemctl --failed", check=False)
        running = state.stdout.partition("\n")[0] == "running"
        require(running, f"expected the system state running, got {state.stdout}")
        holds = self._holds()
        require(not holds, f"expected no hold, got {holds}")
        self._end(began, seen="runs")

    # --- parts -----------------------------------------------------------------------------

    def _submit(self, verb: str, name: str, *options: str) -> None:
        self._stage.quote(self._world.submit(self._world.signed(verb, name, *options)))

    def _holds(self) -> list[dict[str, Any]]:
        return self._world.bastion.rows("holds", of="holds")

    def _uids(self) -> set[str]:
        words = ("get", "pods", f"-n{NAMESPACE}", "-ojsonpath={.items[*].metadata.uid}")
        return set(self._plane.kubectl(*words).split())

    def _require_quiet(self, act: str, now: Look) -> None:
        """Raise `StoryFailed` when code of a held DaemonSet has run."""
        ran = {name: now.lines[name] - self._quiet[name] for name in self._held}
        require(not any(ran.values()), f"{act}: expected no user code, got these lines: {ran}")

    def _require_back(self, names: tuple[str, ...], began: Begun) -> None:
        """Wait until released code runs; check that its pods' old limits are restored."""
        self._held = [name for name in self._held if name not in names]
        slices = [one for name in names for one in self._world.slices(name)]
        self._free |= set(slices)
        back = self._world.wait_for_lines(names, timeout_s=_BACK_S)
        look = self._world.look()
        for one in slices:
            gate = look.gates[one]
            require(gate.descendants == FREE, f"expected no gate on {one}, got {gate}")
            limit = self._guest.run(f"systemctl show -P TasksMax {one}").stdout.strip()
            found = (limit, gate.pids)
            require(found == (PIDS, PIDS), f"expected {PIDS} processes for {one}, got {found}")
            # crun leaves a failed scope for each attempt.  The release resets this pod's only.
            failed = self._failed_scopes()
            require(one not in failed, f"expected no failed scope in {one}, got some")
        self._require_quiet(began.act, look)
        self._end(began, seen=f"back {max(back.values()):.1f} s later")

    def _failed_scopes(self) -> list[str]:
        """Return the slice of each container scope that systemd lists as failed."""
        return self._guest.run(_FAILED).stdout.split()

    def _begin(self, act: str) -> Begun:
        self._stage.act(act)
        return Begun(act=act, at=time.monotonic())

    def _end(self, began: Begun, *, attempts: int = 0, seen: str = "0 lines") -> None:
        seconds = time.monotonic() - began.at
        self.rows.append(Row(act=began.act, seconds=seconds, attempts=attempts, seen=seen))
        self._stage.say(f"{seconds:.0f} s, {attempts} attempts, {seen}")


def _runbook_lines() -> str:
    """Return the shell block of the runbook that opens every gate of a node."""
    text = (REPOSITORY / "docs/runbooks/let-go.md").read_text()
    (block,) = re.findall(r"```sh\n(find .*?)```", text, re.DOTALL)
    return str(block)
