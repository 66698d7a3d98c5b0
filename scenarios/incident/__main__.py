# SPDX-License-Identifier: Apache-2.0
"""Play the incident on a real Kubernetes with two nodes: `make incident`.

A DaemonSet floods the API server; the API server and etcd are killed; a signed stop with a hold
keeps the pods down against kubelet, while agents, containerd and kubelet are killed and restarted.
The API server returns; a pod is replaced; a fixed revision is rolled out beside the held one; a
signed release ends the hold.  The story prints a timeline, and its last line gives the figures.

Exit status 0 when every check passed, 1 when one failed, 2 when this machine cannot run a
Kubernetes (no root rights, no Go) or the arguments are wrong.
"""

import argparse
import sys
from collections.abc import Sequence

import grpc

from lab.kubernetes.cluster import Cluster, left_behind
from scenarios.incident.acts import Incident
from scenarios.incident.world import World
from scenarios.stage import Stage, perform, require

PIDS = 1024  # the limit that kubelet sets on new pods, and that a release must restore
KUBELETS_BACKOFF_S = 300  # kubelet's default longest back-off
_SPARE_S = 45.0
_MOST_MINUTES = 60.0


def play(stage: Stage, minutes: float, backoff_s: int | None) -> str:
    """Play the incident; return its figures.

    Raises:
        StoryFailed: a check failed.
        LabUnavailable: this machine cannot run a Kubernetes.
    """
    with Cluster(backoff_s=backoff_s, pids=PIDS) as cluster:
        world = World(cluster, stage)
        patience_s = _SPARE_S + (KUBELETS_BACKOFF_S if backoff_s is None else backoff_s)
        incident = Incident(world=world, minutes=minutes, patience_s=patience_s)
        try:
            _play_acts(incident)
        except BaseException:
            world.print_logs()
            raise
    left = left_behind(cluster.folder)
    require(not left, f"expected nothing left of the cluster, got {', '.join(left)}")
    return f"{incident.figures()}, nothing left"


def _play_acts(incident: Incident) -> None:
    incident.peacetime()
    incident.flooded()
    incident.undone()
    limits = incident.limits()
    watch = incident.hold()
    incident.kubelet_tries(watch)
    incident.kubelet_restarts(watch)
    incident.replaced(watch)
    incident.rolled_forward(watch)
    incident.released(watch, limits)
    incident.nothing_left()


def main(arguments: Sequence[str]) -> int:
    """Play the incident and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="incident", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--minutes",
        type=_minutes,
        default=5.0,
        help="how long kubelet tries against the hold, at least (default: 5)",
    )
    parser.add_argument(
        "--backoff",
        type=_seconds,
        metavar="SECONDS",
        help="kubelet's longest back-off between two attempts (default: kubelet's own, 300)",
    )
    chosen = parser.parse_args(arguments)
    return perform(
        "incident",
        lambda stage: play(stage, chosen.minutes, chosen.backoff),
        timed=True,
        failures=(grpc.RpcError,),
    )


def _minutes(text: str) -> float:
    found = float(text)
    if not 0 <= found <= _MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"expected 0 to {_MOST_MINUTES:g} minutes, got {text}")
    return found


def _seconds(text: str) -> int:
    found = int(text)
    if not 1 <= found <= KUBELETS_BACKOFF_S:  # the range that kubelet accepts
        raise argparse.ArgumentTypeError(f"expected 1 to {KUBELETS_BACKOFF_S} seconds, got {text}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
