# SPDX-License-Identifier: Apache-2.0
"""`breakglass node add|bundle`: add nodes to the inventory, and write their bundles."""

from pathlib import Path

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session


@click.group()
def command() -> None:
    """Add nodes to the inventory and write their install bundles."""


@command.command("add")
@click.argument("name")
@click.argument("address", metavar="ADDRESS[:PORT]")
@click.option("--cluster", required=True, metavar="CLUSTER", help="The node's Kubernetes cluster.")
@click.option("--pool", default="", metavar="POOL", help="The node's pool, if it has one.")
@click.pass_obj
def add(session: Session, name: str, address: str, cluster: str, pool: str) -> Result:
    """Add a node by its IP address, and make its identity.

    The default port is 7443. A host name is refused: DNS may be down in an outage.
    """
    from breakglass.core import names
    from breakglass.fleet.home.bundle import add_node
    from breakglass.fleet.home.inventory import DEFAULT_PORT, parse_address, parse_pool

    node = add_node(
        session.home(),
        name=names.parse_name(name),
        cluster=names.parse_name(cluster),
        pool=parse_pool(pool),
        address=parse_address(address, default_port=DEFAULT_PORT),
        now=session.now(),
    )
    where = f"cluster {node.cluster}" + (f", pool {node.pool}" if node.pool else "")
    return Result(
        text=f"added {node.name} at {node.address.text}, {where}",
        document={
            "name": node.name,
            "cluster": node.cluster,
            "pool": node.pool,
            "address": node.address.text,
            "log_key": node.log_key,
        },
        notes=(f"next: breakglass node bundle {node.name} --out DIR",),
    )


@command.command("bundle")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="A new folder; it becomes /etc/breakglass on the node.",
)
@click.pass_obj
def bundle(session: Session, name: str, out: Path) -> Result:
    """Write a node's bundle: agent.toml, key, certificate, CA, trust and its pin.

    The folder holds the node's private keys: copy it to the node over a channel that you trust.
    """
    from breakglass.fleet.home.bundle import write_bundle

    home = session.home()
    node = home.inventory().named(name)
    trust = write_bundle(home, node, out)
    made = sorted(path.name for path in out.iterdir())
    return Result(
        text=f"wrote {out} for {node.name}: {', '.join(made)}",
        document={
            "name": node.name,
            "folder": str(out),
            "files": made,
            "trust": {"version": trust.version, "sha256": trust.sha256},
        },
        notes=(f"{out} holds private keys; install it as /etc/breakglass, owned by root",),
    )
