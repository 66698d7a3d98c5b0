# SPDX-License-Identifier: Apache-2.0
"""`breakglass pods`: list the pods on the nodes, as the container runtimes report them."""

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
    """List the nodes' pods, as the container runtimes report them.

    It asks all nodes of the inventory by IP, or only the named ones. It needs no API server.
    """
    from breakglass.cli import answers, table
    from breakglass.fleet.roads.direct import direct_road

    home = session.home()
    asked = home.inventory().some_nodes(nodes)
    answered = answers.ask_all(asked, direct_road(home.courier()), lambda road: road.pods())
    pods = [
        {"node": one.node.name, "cluster": one.node.cluster, **_document(pod)}
        for one in answered
        for pod in one.found
    ]
    text = table.render(
        [key.upper() for key in _HEAD], [[_cell(pod[key]) for key in _HEAD] for pod in pods]
    )
    summary = f"{len(pods)} pods; {answers.answered(answered)} answered"
    return answers.result(answered, "pods", f"{text}\n{summary}", {"pods": pods})


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
