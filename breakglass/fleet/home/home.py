# SPDX-License-Identifier: Apache-2.0
"""The home: one folder on a person's machine with what it takes to deliver commands.

    trust/1.json                            who may approve what; the newest version counts
    ca/{key,cert}.pem                       the offline authority of the TLS identities
    courier/{key,cert}.pem                  this machine's own TLS identity
    inventory.toml                          the nodes
    nodes/CLUSTER/NAME/{key,cert}.pem       each node's TLS identity, until it is installed
    nodes/CLUSTER/NAME/log.key              the seed that signs its log's checkpoints, likewise
    evidence/CLUSTER/NAME/...               what the nodes answered, verified

It is for its owner alone (0700) and holds no authority: what acts is what people sign with keys
that are not here.  Changes to the inventory are made under a lock, so that two `node add` at once
lose nothing.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from breakglass.core import bounds
from breakglass.core.trust import Trust, parse_trust
from breakglass.errors import ConfigInvalid, Malformed
from breakglass.fleet.home import files
from breakglass.fleet.home.identity import TlsIdentity
from breakglass.fleet.home.inventory import (
    Inventory,
    InventoryNode,
    parse_inventory,
    render_inventory,
)

MAX_KEY_FILE_BYTES = 64 * 1024
TRUST_FOLDER = "trust"
INVENTORY = "inventory.toml"

_TRUST_FILE = re.compile(r"([1-9][0-9]{0,8})\.json", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKeys:
    """What only a node should hold in the end: its TLS identity and its log's seed (in hex)."""

    tls: TlsIdentity
    log_seed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """An existing home; every method reads or writes its files."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "Home":
        """Return the home at `path`; raise `ConfigInvalid` when there is none."""
        if not (path / TRUST_FOLDER).is_dir():
            raise ConfigInvalid(
                f"expected a home at {path}, got none",
                code="no-home",
                hint="make one with `breakglass init`, or point --home or $BREAKGLASS_HOME at it",
            )
        return cls(path=path)

    @classmethod
    def create(cls, path: Path, *, trust: bytes, ca: TlsIdentity, courier: TlsIdentity) -> "Home":
        """Make a new home in one step; raise `FileUnreadable` ("exists") over an existing one."""
        files.write_folder(
            path,
            {
                f"{TRUST_FOLDER}/1.json": trust,
                "ca/key.pem": ca.key,
                "ca/cert.pem": ca.certificate,
                "courier/key.pem": courier.key,
                "courier/cert.pem": courier.certificate,
                INVENTORY: render_inventory(Inventory()),
            },
            public=frozenset(),
        )
        return cls(path=path)

    def trust_text(self) -> bytes:
        """Return the text of the newest trust."""
        versions = [
            (int(match[1]), entry)
            for entry in (self.path / TRUST_FOLDER).iterdir()
            if (match := _TRUST_FILE.fullmatch(entry.name))
        ]
        if not versions:
            raise ConfigInvalid(
                f"expected a trust such as {self.path / TRUST_FOLDER}/1.json, got none",
                code="no-trust",
                hint="put the trust that the nodes are pinned to there",
            )
        return files.read_bounded(max(versions)[1], max_bytes=bounds.MAX_TRUST_BYTES)

    def trust(self) -> Trust:
        """Return the newest trust; raise `ConfigInvalid` when it is not a sound one."""
        text = self.trust_text()
        try:
            return parse_trust(text)
        except Malformed as error:
            raise ConfigInvalid(
                f"{error.message} in the home's trust",
                code=error.stable_code,
                hint="put the trust that the nodes are pinned to into the home's trust folder",
            ) from error

    def ca(self) -> TlsIdentity:
        """Return the authority that issues TLS identities."""
        return self._identity(self.path / "ca")

    def ca_certificate(self) -> bytes:
        """Return the authority's certificate, which needs no key beside it."""
        return self._read(self.path / "ca/cert.pem")

    def courier(self) -> TlsIdentity:
        """Return this machine's own TLS identity."""
        return self._identity(self.path / "courier")

    def inventory(self) -> Inventory:
        """Return all nodes; raise `ConfigInvalid` when the file breaks its rules."""
        path = self.path / INVENTORY
        return parse_inventory(files.read_bounded(path, max_bytes=bounds.MAX_INVENTORY_BYTES))

    def change_inventory(self, change: Callable[[Inventory], Inventory]) -> Inventory:
        """Replace the inventory by what `change` makes of it, one process at a time."""
        with files.locked(self.path):
            after = change(self.inventory())
            files.write_atomically(self.path / INVENTORY, render_inventory(after))
            return after

    def keep_node_keys(self, node: InventoryNode, keys: NodeKeys) -> None:
        """Keep a new node's secrets until they are installed; earlier ones are put aside."""
        folder = self._node_folder(node)
        aside = 0
        while folder.exists():
            aside += 1
            with contextlib.suppress(OSError):  # taken: the next number
                folder.rename(folder.with_name(f"{folder.name}~{aside}"))
        files.write_folder(
            folder,
            {
                "key.pem": keys.tls.key,
                "cert.pem": keys.tls.certificate,
                "log.key": keys.log_seed,
            },
            public=frozenset(),
        )

    def node_keys(self, node: InventoryNode) -> NodeKeys:
        """Return a node's secrets; raise `FileUnreadable` when they are not here (any more)."""
        folder = self._node_folder(node)
        tls, seed = self._identity(folder), self._read(folder / "log.key")
        return NodeKeys(tls=tls, log_seed=seed)

    def evidence_folder(self, node: InventoryNode) -> Path:
        """Return where this node's evidence is kept; it may not exist yet."""
        return self.path / "evidence" / node.cluster / node.name

    def _node_folder(self, node: InventoryNode) -> Path:
        return self.path / "nodes" / node.cluster / node.name

    def _identity(self, folder: Path) -> TlsIdentity:
        key, certificate = (self._read(folder / name) for name in ("key.pem", "cert.pem"))
        return TlsIdentity(key=key, certificate=certificate)

    def _read(self, path: Path) -> bytes:
        return files.read_bounded(path, max_bytes=MAX_KEY_FILE_BYTES)
