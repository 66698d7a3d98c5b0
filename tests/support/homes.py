# SPDX-License-Identifier: Apache-2.0
"""A home on the bastion, with three people and their keys."""

from datetime import UTC, datetime

from breakglass.fleet.home.bundle import add_node
from breakglass.fleet.home.home import Home
from breakglass.fleet.home.inventory import parse_address

NOW = datetime(2026, 11, 21, 4, 0, 0, 123, tzinfo=UTC)


def add(home: Home, name: str, address: str = "192.0.2.1:7443") -> None:
    """Add a node as `node add` does."""
    add_node(home, name=name, cluster="prod-a", pool="", address=parse_address(address), now=NOW)
