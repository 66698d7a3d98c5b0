# SPDX-License-Identifier: Apache-2.0
"""What a node needs: its row in the inventory, its keys, and the folder that is installed on it.

The folder becomes `/etc/breakglass`: `agent.toml` with paths relative to itself, the node's TLS
key and certificate, the CA that couriers are checked against, the trust, and its pin inside
`agent.toml`.  The list of protected workloads keeps the node's own life support out of anybody's
reach; no quorum overrides it, and only the node's owner changes it, in that file.
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

# Names under which these are really installed: kubeadm, the projects' own manifests and charts, and
# the managed clouds.  Any namespace, because the same thing is put into different ones.
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
    # another breakglass component in a pod
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
    """Make a node's identity and its row in the inventory; raise before anything is written."""
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
                f"expected a new name for a node, got {name}, which is in the inventory",
                code="exists",
                hint="to give it a new identity, remove its row from inventory.toml first",
            )
        after = Inventory(nodes=(*inventory.nodes, node))
        # The keys come first: a row without keys could never be installed, keys without a row
        # are never looked at.
        home.keep_node_keys(node, NodeKeys(tls=tls, log_seed=seed.hex().encode() + b"\n"))
        return after

    home.change_inventory(added)
    return node


def origin_of(trust: Trust, *, cluster: str, node: str) -> str:
    """Return the name of a node's log in its checkpoints."""
    return f"breakglass/{trust.domain}/{cluster}/{node}"


def write_bundle(home: Home, node: InventoryNode, folder: Path) -> Trust:
    """Write the folder that is installed on a node; raise `FileUnreadable` when it exists."""
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
    # Every value was parsed: none holds a quote, a backslash or a control character.
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
    yield "# The pin: this very text, as its founders read it to each other."
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
    yield "# How far this node's clock may be off before a command's window refuses it."
    yield 'skew = "5m"'
    yield ""
    yield "[protected]"
    yield "# Workloads that nobody stops here, whatever was signed: the node's own life support."
    yield "workloads = ["
    for pattern in LIFE_SUPPORT:
        yield f'  "{pattern}",'
    yield "]"
