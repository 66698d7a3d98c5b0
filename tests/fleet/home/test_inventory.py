# SPDX-License-Identifier: Apache-2.0
"""The inventory: nodes by IP address, parsed strictly, and rendered so that it parses back."""

from dataclasses import replace

import pytest

from breakglass.errors import ConfigInvalid, Malformed
from breakglass.fleet.home.inventory import (
    Inventory,
    InventoryNode,
    parse_address,
    parse_inventory,
    render_inventory,
)
from tests.support.fake_node import FakeNode
from tests.support.organisation import Organisation

ORGANISATION = Organisation()


def rows(*names: str) -> tuple[InventoryNode, ...]:
    """Return inventory rows with these names."""
    return tuple(FakeNode(organisation=ORGANISATION, name=name).row for name in names)


def test_an_inventory_reads_back_as_it_was_written() -> None:
    """Parsing a rendered inventory gives the same value, without and with nodes."""
    for inventory in (Inventory(), Inventory(nodes=rows("n1", "n2", "rack-3.x_1"))):
        assert parse_inventory(render_inventory(inventory)) == inventory


@pytest.mark.parametrize(
    ("given", "shown", "target"),
    [
        ("192.0.2.1:7443", "192.0.2.1:7443", "ipv4:192.0.2.1:7443"),
        ("192.0.2.1", "192.0.2.1:7000", "ipv4:192.0.2.1:7000"),
        ("[2001:db8::1]:7443", "[2001:db8::1]:7443", "ipv6:[2001:db8::1]:7443"),
        ("2001:db8::1", "[2001:db8::1]:7000", "ipv6:[2001:db8::1]:7000"),
        ("[2001:db8:0:0::1]", "[2001:db8::1]:7000", "ipv6:[2001:db8::1]:7000"),
    ],
)
def test_addresses_are_ip_literals_in_one_spelling(given: str, shown: str, target: str) -> None:
    """IPv4 and IPv6, with or without the default port."""
    address = parse_address(given, default_port=7000)
    assert (address.text, address.target) == (shown, target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "node-1.example:7443",
        "127.1:7443",
        "0.0.0.0:7443",
        "224.0.0.1:7443",
        "[fe80::1%eth0]:7443",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:07443",
        "192.0.2.1:٧٤٤٣",
        "192.0.2.1:7443 ",
        "[2001:db8::1]7443",
        "[2001:db8::1",
        "http://192.0.2.1",
    ],
)
def test_names_and_impossible_addresses_are_refused(text: str) -> None:
    """A host name is refused, because DNS may be down in an outage."""
    with pytest.raises(Malformed, match="expected"):
        parse_address(text, default_port=7443)


def test_an_address_in_the_file_needs_its_port() -> None:
    """The default port is only for the command line."""
    with pytest.raises(Malformed):
        parse_address("192.0.2.1")


GOOD = render_inventory(Inventory(nodes=rows("n1"))).decode()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "n1"', "name = 1", "text"),
        ('name = "n1"', 'name = "N1"', "a name"),
        ('name = "n1"\n', "", "nodes"),
        ('pool = ""', 'pool = ""\nrack = "7"', "rack"),
        ("[[nodes]]", "[nodes]", "list"),
        ("[[nodes]]", "version = 2\n[[nodes]]", "version"),
        ("192.0.2.", "node-", "IP address"),
        ("BEGIN CERTIFICATE", "BEGIN PRIVATE KEY", "certificate"),
        ("+", " ", "log key"),
        ('cluster = "prod-a"', 'cluster = "prod-a', "TOML"),
    ],
)
def test_an_inventory_that_breaks_a_rule_is_refused(old: str, new: str, said: str) -> None:
    """Unknown keys, missing keys, wrong types, and host names in place of addresses."""
    with pytest.raises(ConfigInvalid, match=said):
        parse_inventory(GOOD.replace(old, new, 1).encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    """A damaged file raises `ConfigInvalid`."""
    with pytest.raises(ConfigInvalid, match="TOML"):
        parse_inventory(b"\xff\xfe")


def test_a_name_or_address_stands_once() -> None:
    """Two rows must have neither the same name nor the same address."""
    one, two = rows("n1", "n2")
    with pytest.raises(ConfigInvalid, match="n1 twice"):
        Inventory(nodes=(one, one))
    with pytest.raises(ConfigInvalid, match="address once"):
        Inventory(nodes=(one, replace(two, address=one.address)))


def test_nodes_are_found_by_name_and_by_targets() -> None:
    """`some_nodes` returns the named nodes, or all; `covered_by` those of a command's targets."""
    inventory = Inventory(nodes=rows("n1", "n2", "n3"))
    assert [one.name for one in inventory.some_nodes(("n3", "n1", "n3"))] == ["n3", "n1"]
    assert inventory.some_nodes() == inventory.nodes
    targets = ORGANISATION.draft(nodes="n[1-2]", excepted="n2").targets
    assert [one.name for one in inventory.covered_by(targets)] == ["n1"]


def test_an_unknown_node_and_an_empty_inventory_are_said() -> None:
    """A selection without any node is an error, not an empty success."""
    with pytest.raises(ConfigInvalid, match="n9"):
        Inventory(nodes=rows("n1")).some_nodes(("n9",))
    with pytest.raises(ConfigInvalid, match="got none"):
        Inventory().some_nodes()
