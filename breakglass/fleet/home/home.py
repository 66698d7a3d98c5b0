# SPDX-License-Identifier: Apache-2.0
"""The home: one folder on the bastion with everything that delivering commands needs.

    trust/1.json                            who may approve what; the newest version counts
    ca/{key,cert}.pem                       the offline CA of the TLS identities
    courier/{key,cert}.pem                  this machine's own TLS identity
    inventory.toml                          the nodes
    nodes/CLUSTER/NAME/{key,cert}.pem       each node's TLS identity, until it is installed
    nodes/CLUSTER/NAME/log.key              the seed of the key for its checkpoints, likewise
    evidence/CLUSTER/NAME/...               verified receipts, checkpoints and logs

Only its owner can read it (0700).  It has no authority (P2): nodes act on people's signatures, and
the people's private keys are not in it.  A lock guards the inventory, so that two `node add` at the
same time lose no row.
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
    """A node's secrets: its TLS identity and the seed of its log key (in hex).

    After the installation only the node should have them.
    """

    tls: TlsIdentity
    log_seed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """An existing home; each method reads or writes its files."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "Home":
        """Return the home at `path`; raise `ConfigInvalid` if there is none."""
        if not (path / TRUST_FOLDER).is_dir():
            raise ConfigInvalid(
                f"expected a home at {path}, got none",
                code="no-home",
                hint="make one with `breakglass init`, or set --home or $BREAKGLASS_HOME",
            )
        return cls(path=path)

    @classmethod
    def create(cls, path: Path, *, trust: bytes, ca: TlsIdentity, courier: TlsIdentity) -> "Home":
        """Make a new home in one step; raise `FileUnreadable` ("exists") if there is one."""
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
        """Return the bytes of the newest trust."""
        versions = [
            (int(match[1]), entry)
            for entry in (self.path / TRUST_FOLDER).iterdir()
            if (match := _TRUST_FILE.fullmatch(entry.name))
        ]
        if not versions:
            raise ConfigInvalid(
                f"expected a trust such as {self.path / TRUST_FOLDER}/1.json, got none",
                code="no-trust",
                hint="copy the trust that the nodes pin into that folder",
            )
        return files.read_bounded(max(versions)[1], max_bytes=bounds.MAX_TRUST_BYTES)

    def trust(self) -> Trust:
        """Return the newest trust; raise `ConfigInvalid` if it is not valid."""
        text = self.trust_text()
        try:
            return parse_trust(text)
        except Malformed as error:
            raise ConfigInvalid(
                f"{error.message} in the home's trust",
                code=error.stable_code,
                hint=f"copy the trust that the nodes pin into {self.path / TRUST_FOLDER}",
            ) from error

    def ca(self) -> TlsIdentity:
        """Return the CA that issues TLS identities."""
        return self._identity(self.path / "ca")

    def ca_certificate(self) -> bytes:
        """Return the CA's certificate; the CA's key may be kept elsewhere."""
        return self._read(self.path / "ca/cert.pem")

    def courier(self) -> TlsIdentity:
        """Return this machine's own TLS identity."""
        return self._identity(self.path / "courier")

    def inventory(self) -> Inventory:
        """Return the inventory; raise `ConfigInvalid` if the file is not valid."""
        path = self.path / INVENTORY
        return parse_inventory(files.read_bounded(path, max_bytes=bounds.MAX_INVENTORY_BYTES))

    def change_inventory(self, change: Callable[[Inventory], Inventory]) -> Inventory:
        """Replace the inventory by the result of `change`, one process at a time."""
        with files.locked(self.path):
            after = change(self.inventory())
            files.write_atomically(self.path / INVENTORY, render_inventory(after))
            return after

    def keep_node_keys(self, node: InventoryNode, keys: NodeKeys) -> None:
        """Store a new node's secrets until they are installed; rename the folder of older ones."""
        folder = self._node_folder(node)
        aside = 0
        while folder.exists():
            aside += 1
            with contextlib.suppress(OSError):  # that name exists: try the next number
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
        """Return a node's secrets; raise `FileUnreadable` if they were removed or never made."""
        folder = self._node_folder(node)
        tls, seed = self._identity(folder), self._read(folder / "log.key")
        return NodeKeys(tls=tls, log_seed=seed)

    def evidence_folder(self, node: InventoryNode) -> Path:
        """Return the folder of this node's evidence; it may not exist yet."""
        return self.path / "evidence" / node.cluster / node.name

    def _node_folder(self, node: InventoryNode) -> Path:
        return self.path / "nodes" / node.cluster / node.name

    def _identity(self, folder: Path) -> TlsIdentity:
        key, certificate = (self._read(folder / name) for name in ("key.pem", "cert.pem"))
        return TlsIdentity(key=key, certificate=certificate)

    def _read(self, path: Path) -> bytes:
        return files.read_bounded(path, max_bytes=MAX_KEY_FILE_BYTES)
