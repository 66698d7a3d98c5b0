# SPDX-License-Identifier: Apache-2.0
"""The inventory: every node of the fleet by IP address, with its pinned certificate and log key.

`inventory.toml` is one `[[nodes]]` table per node: name, cluster, pool, address, certificate (the
node's own leaf, in PEM) and log_key (the key of its log's checkpoints).  It is parsed strictly, and
a host name is refused as an address: DNS may be down in an outage.  This module parses and renders;
it opens no file and contacts no node.
"""

import ipaddress
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from breakglass.core import bounds, names
from breakglass.core.canonical import Fields, Json
from breakglass.core.targets import Targets
from breakglass.errors import ConfigInvalid, Malformed

DEFAULT_PORT = 7443
MAX_PORT = 65_535
MAX_CERTIFICATE_CHARS = 4_096
MAX_LOG_KEY_CHARS = 512

_HINT = "correct inventory.toml, or make the row again with `breakglass node add`"
_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n", re.ASCII
)
_LOG_KEY = re.compile(r"[a-z0-9._/-]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a node listens: an IP address, never a host name, and a port."""

    ip: str
    port: int

    @property
    def text(self) -> str:
        """The address as "IP:PORT", IPv6 in brackets."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @property
    def target(self) -> str:
        """The address in gRPC's form that uses no resolver."""
        return f"ipv{6 if ':' in self.ip else 4}:{self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryNode:
    """One node; `pool` is "" for a node without a pool."""

    name: str
    cluster: str
    pool: str
    address: Address
    certificate: str
    log_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All nodes, in the file's order."""

    nodes: tuple[InventoryNode, ...] = ()

    def __post_init__(self) -> None:
        """Raise `ConfigInvalid` if two rows have the same name or the same address."""
        for what, keys in (
            ("name", [node.name for node in self.nodes]),
            ("address", [node.address.text for node in self.nodes]),
        ):
            seen: set[str] = set()
            for key in keys:
                if key in seen:
                    raise ConfigInvalid(
                        f"expected each {what} once in the inventory, got {key} twice", hint=_HINT
                    )
                seen.add(key)

    def covered_by(self, targets: Targets) -> tuple[InventoryNode, ...]:
        """Return the nodes that a command's targets cover."""
        return tuple(
            node for node in self.nodes if targets.covers(node.cluster, node.name, node.pool)
        )

    def some_nodes(self, names_wanted: tuple[str, ...] = ()) -> tuple[InventoryNode, ...]:
        """Return the nodes with these names, or all of them; raise `ConfigInvalid` if none."""
        found = tuple(self.named(name) for name in dict.fromkeys(names_wanted)) or self.nodes
        if not found:
            raise ConfigInvalid(
                "expected nodes in the inventory, got none",
                code="no-nodes",
                hint="add the nodes with `breakglass node add`",
            )
        return found

    def named(self, name: str) -> InventoryNode:
        """Return the node with that name; raise `ConfigInvalid` if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ConfigInvalid(
            f"expected a node of the inventory, got {names.quoted(name)}",
            code="unknown-node",
            hint="see inventory.toml for the names, or add the node with `breakglass node add`",
        )


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """Return the address in "IP:PORT", or in "IP" alone if there is a default port.

    Raises:
        Malformed: it is a host name, an address that no node can have, or not in this form.
    """
    host, port = _split(text)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError as error:
        raise Malformed(
            f"expected an IP address such as 192.0.2.1:7443, got {names.quoted(text)}",
            code="not-an-address",
            hint="give the IP address: a host name is refused, as DNS may be down in an outage",
        ) from error
    if ip.is_unspecified or ip.is_multicast or "%" in host:
        raise Malformed(f"expected the address of one machine, got {names.quoted(text)}")
    if not port and default_port is not None:
        return Address(ip=str(ip), port=default_port)
    if not (
        port.isascii()
        and port.isdigit()
        and port.lstrip("0") == port
        and 1 <= int(port[:6]) <= MAX_PORT
    ):
        raise Malformed(f"expected a port from 1 to 65535, got {names.quoted(port)}")
    return Address(ip=str(ip), port=int(port))


def parse_inventory(raw: bytes) -> Inventory:
    """Return the inventory in `raw`; raise `ConfigInvalid` if it is not valid."""
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid(f"expected TOML in the inventory, got: {error}", hint=_HINT) from error
    try:
        return Inventory(nodes=_nodes(document))
    except Malformed as error:
        hint = error.hint if error.hint != Malformed.default_hint else _HINT
        message = f"{error.message} in the inventory"
        raise ConfigInvalid(message, code=error.stable_code, hint=hint) from error


def render_inventory(inventory: Inventory) -> bytes:
    """Return the text of an inventory, which `parse_inventory` parses back to the same value."""
    return "\n".join(_render_node(node) for node in inventory.nodes).encode()


def _split(text: str) -> tuple[str, str]:
    """Return host and port; the port is "" if there is none."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return text, ""
        return host, rest[1:] if len(rest) != 1 else "none"
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port or "none"
    return text, ""


def _nodes(document: dict[str, Json]) -> tuple[InventoryNode, ...]:
    fields = Fields(document)
    found: list[InventoryNode] = []
    if document:
        for row in fields.objects("nodes", max_items=bounds.MAX_NODES):
            found.append(_node(row))
            row.finish()
    fields.finish()
    return tuple(found)


def _node(row: Fields) -> InventoryNode:
    return InventoryNode(
        name=row.parsed("name", names.parse_name),
        cluster=row.parsed("cluster", names.parse_name),
        pool=row.parsed("pool", parse_pool),
        address=row.parsed("address", parse_address),
        certificate=row.parsed("certificate", _certificate, max_chars=MAX_CERTIFICATE_CHARS),
        log_key=row.parsed("log_key", _log_key, max_chars=MAX_LOG_KEY_CHARS),
    )


def parse_pool(text: str) -> str:
    """Return the name of a pool, or "" for none."""
    return names.parse_name(text) if text else ""


def _certificate(text: str) -> str:
    if not _PEM.fullmatch(text):
        raise Malformed("expected one certificate in PEM, got something else")
    return text


def _log_key(text: str) -> str:
    if not _LOG_KEY.fullmatch(text):
        raise Malformed(f"expected a log key as name+hash+key, got {names.quoted(text)}")
    return text


def _render_node(node: InventoryNode) -> str:
    return "\n".join(_render_lines(node)) + "\n"


def _render_lines(node: InventoryNode) -> Iterator[str]:
    # The parsers of these values allow no quote, backslash or control character.
    yield "[[nodes]]"
    yield f'name = "{node.name}"'
    yield f'cluster = "{node.cluster}"'
    yield f'pool = "{node.pool}"'
    yield f'address = "{node.address.text}"'
    yield f'certificate = """\n{node.certificate}"""'
    yield f'log_key = "{node.log_key}"'
