# SPDX-License-Identifier: Apache-2.0
"""The incident from end to end, on a real Kubernetes of two nodes: `make incident`.

A DaemonSet floods the API server; the API server and etcd die; a signed stop with a hold keeps its
pods down against kubelet, while agents, containerd and kubelet are killed and come back; the API
returns; a pod is replaced, a fixed revision is rolled out beside the held one, and a signed release
lets go.  It prints its timeline, and the last line sums up in figures.

Exit status 0 when everything was as it should be, 1 when something was not, 2 where a Kubernetes
cannot run (no root, no Go) or the arguments are wrong.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import grpc

from lab import LabUnavailable
from lab.incident_acts import Story
from lab.incident_stage import IncidentFailed, Stage
from lab.kubernetes import Cluster, left_behind
from lab.kubernetes_daemon import NeverReady

PIDS = 1024  # kubelet gives new pods a limit of its own, which a release must restore
KUBELETS_BACKOFF_S = 300  # its longest pause between two attempts
_SPARE_S = 45.0
_MOST_MINUTES = 60.0
_FAILURES = (IncidentFailed, NeverReady, subprocess.SubprocessError, OSError, grpc.RpcError)


def play(minutes: float, backoff_s: int | None) -> str:
    """Play the incident; return its sum.

    Raises:
        IncidentFailed: something was not as it should be.
        LabUnavailable: a Kubernetes cannot run here.
    """
    began = time.monotonic()
    with Cluster(backoff_s=backoff_s, pids=PIDS) as cluster:
        stage = Stage(cluster)
        patience_s = _SPARE_S + (KUBELETS_BACKOFF_S if backoff_s is None else backoff_s)
        story = Story(stage=stage, minutes=minutes, patience_s=patience_s)
        try:
            _tell(story)
        except BaseException:
            stage.tell_logs()
            raise
    if left := left_behind(cluster.folder):
        raise IncidentFailed(f"expected nothing left of it, got {', '.join(left)}")
    return f"{story.sum()}, nothing left; {time.monotonic() - began:.0f} s in all"


def _tell(story: Story) -> None:
    story.peacetime()
    story.flooded()
    story.undone()
    limits = story.limits()
    watch = story.hold()
    story.kubelet_tries(watch)
    story.kubelet_restarts(watch)
    story.replaced(watch)
    story.rolled_forward(watch)
    story.released(watch, limits)
    story.nothing_left()


def main(arguments: Sequence[str]) -> int:
    """Play, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="incident", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--minutes", type=_minutes, default=5.0, help="of kubelet's attempts, at least (default: 5)"
    )
    parser.add_argument(
        "--backoff",
        type=_seconds,
        metavar="SECONDS",
        help="kubelet's longest pause between two attempts (default: its own, 300)",
    )
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("NO_COLOR", "1")
    signal.signal(signal.SIGTERM, _end)
    try:
        print(f"\n{play(chosen.minutes, chosen.backoff)}")
    except LabUnavailable as error:
        print(f"incident not played: {error}", file=sys.stderr)
        return 2
    except _FAILURES as error:
        said = getattr(error, "stderr", None)
        print(f"incident failed: {error}{f': {said}' if said else ''}", file=sys.stderr)
        return 1
    return 0


def _end(number: int, _: object) -> NoReturn:
    """Leave by the usual way out: a kubelet that stays behind would go on for ever."""
    raise SystemExit(128 + number)


def _minutes(text: str) -> float:
    found = float(text)
    if not 0 <= found <= _MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"expected 0 to {_MOST_MINUTES:g} minutes, got {text}")
    return found


def _seconds(text: str) -> int:
    found = int(text)
    if not 1 <= found <= KUBELETS_BACKOFF_S:  # what kubelet takes
        raise argparse.ArgumentTypeError(f"expected 1 to {KUBELETS_BACKOFF_S} seconds, got {text}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
