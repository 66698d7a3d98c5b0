# SPDX-License-Identifier: Apache-2.0
"""Add a node: its inventory row, its keys, and the bundle, a folder to install on it.

The folder becomes `/etc/breakglass`: `agent.toml` with paths relative to itself, the node's TLS
key and certificate, the CA for the couriers' certificates, the trust, and its pin inside
`agent.toml`.  `agent.toml` lists the protected workloads, without which the node or its pods do not
work.  No quorum overrides that list (P8); only the node's owner changes it, in that file.
"""

import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from breakglass.core.checkpoint import LogSigner
from breakglass.core.trust import Trust
from breakglass.errors import ConfigInvalid
from breakglass.fleet.home import files, identity
from breakglass.fleet.home.home import Home, NodeKeys
from breakglass.fleet.home.inventory import Address, Inventory, InventoryNode

# Their names as kubeadm, the projects' own manifests and charts, and the managed clouds install
# them.  In any namespace, because installations differ in it.
LIFE_SUPPORT = (
    # traffic to Services
    "*/kube-proxy*",
    "*/kube-router*",
    # pod networks
    "*/anetd*",
    "*/antrea-agent*",
    "*/aws-node*",
    "*/azure-cni*",
    "*/azure-cns*",
    "*/azure-npm*",
    "*/calico-*",
    "*/canal*",
    "*/cilium*",
    "*/kindnet*",
    "*/kube-flannel*",
    "*/kube-multus*",
    "*/kube-ovn-cni*",
    "*/multus*",
    "*/netd*",
    "*/ovn-kubernetes*",
    "*/ovnkube-*",
    "*/ovs-*",
    "*/rke2-canal*",
    "*/sdn",
    "*/sriov-*",
    "*/weave-net*",
    "*/whereabouts*",
    # identity and names that the node's pods need to work at all
    "*/dns-default",
    "*/eks-pod-identity-agent*",
    "*/gke-metadata-server*",
    "*/node-local-dns*",
    "*/nodelocaldns*",
    # volumes
    "*/*-csi",
    "*/*-csi-*",
    "*/*csi-node*",
    "*/csi-*",
    "*/longhorn-*",
    "*/portworx*",
    # components of breakglass that run in pods
    "*/breakglass-*",
)

_PATHS = {
    "key": "key.pem",
    "certificate": "cert.pem",
    "ca": "ca.pem",
    "trust": "trust.json",
    "log_key": "log.key",
}


def add_node(
    home: Home, *, name: str, cluster: str, pool: str, address: Address, now: datetime
) -> InventoryNode:
    """Make a node's identity and its inventory row; raise before anything is written."""
    trust = home.trust()
    tls = identity.make_node(home.ca(), node=name, cluster=cluster, ip=address.ip, now=now)
    seed = secrets.token_bytes(32)
    signer = LogSigner(origin_of(trust, cluster=cluster, node=name), seed)
    node = InventoryNode(
        name=name,
        cluster=cluster,
        pool=pool,
        address=address,
        certificate=tls.certificate.decode("ascii"),
        log_key=signer.vkey,
    )

    def added(inventory: Inventory) -> Inventory:
        if any(one.name == name for one in inventory.nodes):
            raise ConfigInvalid(
                f"expected a new node name, got {name}, which is in the inventory",
                code="exists",
                hint="to make a new identity for it, first remove its row from inventory.toml",
            )
        after = Inventory(nodes=(*inventory.nodes, node))
        # The keys come first: a row without keys could never be installed, but keys without a
        # row are never read.
        home.keep_node_keys(node, NodeKeys(tls=tls, log_seed=seed.hex().encode() + b"\n"))
        return after

    home.change_inventory(added)
    return node


def origin_of(trust: Trust, *, cluster: str, node: str) -> str:
    """Return the origin of a node's log: its name in the checkpoints."""
    return f"breakglass/{trust.domain}/{cluster}/{node}"


def write_bundle(home: Home, node: InventoryNode, folder: Path) -> Trust:
    """Write a node's bundle and return its trust; raise `FileUnreadable` if the folder exists."""
    trust, keys = home.trust(), home.node_keys(node)
    files.write_folder(
        folder,
        {
            "agent.toml": render_agent_config(node, trust),
            _PATHS["key"]: keys.tls.key,
            _PATHS["certificate"]: keys.tls.certificate,
            _PATHS["ca"]: home.ca_certificate(),
            _PATHS["trust"]: home.trust_text(),
            _PATHS["log_key"]: keys.log_seed,
        },
        public=frozenset({"agent.toml", *(_PATHS[key] for key in ("certificate", "ca", "trust"))}),
    )
    return trust


def render_agent_config(node: InventoryNode, trust: Trust) -> bytes:
    """Return `agent.toml` for a node, as `breakglass-agent` reads it."""
    return ("\n".join(_config_lines(node, trust)) + "\n").encode()


def _config_lines(node: InventoryNode, trust: Trust) -> Iterator[str]:
    # The parsers of these values allow no quote, backslash or control character.
    yield f"# The breakglass agent of {node.name}.  Relative paths start at this file's folder."
    yield "[node]"
    yield f'name = "{node.name}"'
    yield f'domain = "{trust.domain}"'
    yield f'cluster = "{node.cluster}"'
    yield f'pool = "{node.pool}"'
    yield ""
    yield "[listen]"
    yield f'address = "{node.address.text}"'
    yield 'socket = "/run/breakglass/agent.sock"'
    yield ""
    yield "[tls]"
    for key in ("key", "certificate", "ca"):
        yield f'{key} = "{_PATHS[key]}"'
    yield ""
    yield "[trust]"
    yield f'file = "{_PATHS["trust"]}"'
    yield "# The pin: the SHA-256 of exactly this trust, as its founders compared it."
    yield f'sha256 = "{trust.sha256}"'
    yield ""
    yield "[state]"
    yield 'directory = "/var/lib/breakglass"'
    yield f'log_key = "{_PATHS["log_key"]}"'
    yield ""
    yield "[runtime]"
    yield 'endpoint = "/run/containerd/containerd.sock"'
    yield ""
    yield "[clock]"
    yield "# How far this node's clock may be off: commands are valid this much earlier and later."
    yield 'skew = "5m"'
    yield ""
    yield "[protected]"
    yield "# The agent never stops these workloads, whatever people sign: the node needs them."
    yield "workloads = ["
    for pattern in LIFE_SUPPORT:
        yield f'  "{pattern}",'
    yield "]"
