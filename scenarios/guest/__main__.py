# SPDX-License-Identifier: Apache-2.0
"""Test holds on a node with pure cgroup v2, the systemd driver, runc and crun: `make test-v2`.

Commands with two approvals stop and hold four DaemonSets.  They stay down while a real kubelet
tries to start them and while kubelet, containerd, systemd, the agent and the node restart.  Then
each is released in a different way.  The table near the end has a row for each act; the last line
gives the figures.

Exit status 0 when every check passed, 1 when one failed, 2 when this machine cannot run a guest.
Times are those of an emulated machine, several times as long as on a real one.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

from scenarios.guest.acts import GuestStory
from scenarios.guest.world import World, world
from scenarios.stage import Stage, perform

_WHY = "journalctl -u breakglass-agent -o cat --no-pager | tail -40; systemctl --failed"


def play(stage: Stage) -> str:
    """Play the story; return its figures.

    Raises:
        StoryFailed: a check failed.
        LabUnavailable: this machine cannot run a guest.
    """
    folders = tempfile.TemporaryDirectory(prefix="bg-v2-", dir="/tmp")
    with folders as folder, world(Path(folder)) as made:
        stage.say("the guest, its control plane and four DaemonSets are running")
        story = GuestStory(made, stage)
        try:
            _play_acts(story, made)
        except BaseException:
            stage.quote(made.guest.run(_WHY, check=False).stdout)
            raise
        finally:
            _print_table(story, stage)
    attempts = sum(row.attempts for row in story.rows)
    return (
        f"{len(story.rows)} acts, {attempts} attempts of kubelet blocked,"
        " 0 lines of user code while held"
    )


def _print_table(story: GuestStory, stage: Stage) -> None:
    """Print the acts as the table of docs/cgroup-v2.md."""
    stage.act("All acts")
    stage.quote("| act | seconds | attempts blocked | user code |\n|---|---|---|---|")
    for row in story.rows:
        stage.quote(f"| {row.act} | {row.seconds:.0f} | {row.attempts} | {row.seen} |")


def _play_acts(story: GuestStory, world: World) -> None:
    """Play every act."""
    guest, plane = world.guest, world.plane
    story.install_the_agent()
    story.stop_without_hold()
    story.hold_all()
    story.stays_down("kubelet tries", lambda: None, tries=3)
    servers = ("kube-apiserver", "etcd")
    kill = "systemctl kill --signal=KILL"
    # This act needs the API server: without it a kubelet that starts knows no pods and tries none.
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


if __name__ == "__main__":
    sys.exit(perform("test-v2", play, timed=True))
