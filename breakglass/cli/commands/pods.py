# SPDX-License-Identifier: Apache-2.0
"""`breakglass pods`: the nodes' pods, as their runtimes see them."""

from typing import TYPE_CHECKING

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session

if TYPE_CHECKING:
    from breakglass.fleet.roads.port import NodePod

_HEAD = ("node", "namespace", "name", "daemonset", "revision", "state", "running", "protected")


@click.command()
@click.argument("nodes", nargs=-1, metavar="[NODE ...]")
@click.pass_obj
def command(session: Session, nodes: tuple[str, ...]) -> Result:
    """List the nodes' pods as their runtimes see them.

    All nodes of the inventory are asked by IP, or those that are named. No API server is.
    """
    from breakglass.cli import answers, table
    from breakglass.fleet.roads.direct import direct_road

    home = session.home()
    asked = home.inventory().some_nodes(nodes)
    told = answers.ask_all(asked, direct_road(home.courier()), lambda road: road.pods())
    pods = [
        {"node": one.node.name, "cluster": one.node.cluster, **_document(pod)}
        for one in told
        for pod in one.found
    ]
    text = table.render(
        [key.upper() for key in _HEAD], [[_cell(pod[key]) for key in _HEAD] for pod in pods]
    )
    summary = f"{len(pods)} pods on {answers.answered(told)}"
    return answers.result(told, "pods", f"{text}\n{summary}", {"pods": pods})


def _cell(value: object) -> str:
    return {True: "yes", False: ""}[value] if isinstance(value, bool) else str(value)


def _document(pod: "NodePod") -> dict[str, object]:
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
        "daemonset": pod.daemonset,
        "revision": pod.revision,
        "state": pod.state,
        "containers": pod.containers,
        "running": pod.running,
        "protected": pod.protected,
    }
