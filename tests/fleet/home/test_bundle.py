# SPDX-License-Identifier: Apache-2.0
"""A node's bundle: the agent accepts it, and it protects the node's life support."""

import stat
from pathlib import Path

import pytest

from breakglass.agent.config import load, read_identity
from breakglass.core.pods import is_protected
from breakglass.errors import ConfigInvalid
from breakglass.fleet.home.bundle import LIFE_SUPPORT, write_bundle
from breakglass.fleet.home.home import Home
from tests.support.homes import add


def test_the_agent_accepts_what_a_bundle_holds(tmp_path: Path, home: Home) -> None:
    """The agent's strict parser accepts every file, and the trust matches its pin."""
    add(home, "n1")
    node = home.inventory().named("n1")
    write_bundle(home, node, tmp_path / "deep" / "n1")
    config = load(tmp_path / "deep" / "n1" / "agent.toml")
    identity = read_identity(config)
    assert (config.name, config.cluster, config.address) == ("n1", "prod-a", "192.0.2.1:7443")
    assert identity.trust.sha256 == home.trust().sha256
    assert identity.tls_certificate.decode() == node.certificate
    assert config.protected == LIFE_SUPPORT
    assert stat.S_IMODE((tmp_path / "deep" / "n1" / "key.pem").stat().st_mode) == 0o600
    assert node.log_key.startswith(f"{config.origin}+")


def test_a_node_is_added_once_and_its_earlier_keys_are_put_aside(home: Home) -> None:
    """The same name is refused; after its row is removed it gets a new identity."""
    add(home, "n1")
    with pytest.raises(ConfigInvalid) as error:
        add(home, "n1", "192.0.2.2:7443")
    assert error.value.stable_code == "exists"
    before = home.inventory().named("n1")
    (home.path / "inventory.toml").write_bytes(b"")
    add(home, "n1")
    assert home.inventory().named("n1").log_key != before.log_key
    assert (home.path / "nodes" / "prod-a" / "n1~1" / "log.key").exists()


@pytest.mark.parametrize(
    "workload",
    [
        "kube-system/kube-proxy",
        "kube-system/kube-proxy-windows",
        "kube-system/calico-node",
        "calico-system/calico-node",
        "kube-system/cilium",
        "kube-flannel/kube-flannel-ds",
        "kube-system/kube-flannel-ds-amd64",
        "kube-system/aws-node",
        "kube-system/azure-cns",
        "kube-system/antrea-agent",
        "kube-system/weave-net",
        "kube-system/kindnet",
        "openshift-ovn-kubernetes/ovnkube-node",
        "kube-system/kube-multus-ds",
        "openshift-multus/multus",
        "kube-system/node-local-dns",
        "kube-system/ebs-csi-node",
        "kube-system/csi-azuredisk-node",
        "kube-system/efs-csi-node",
        "gce-pd-csi-driver/csi-gce-pd-node",
        "kube-system/pdcsi-node",
        "rook-ceph/csi-rbdplugin",
        "longhorn-system/longhorn-manager",
        "longhorn-system/longhorn-csi-plugin",
    ],
)
def test_a_nodes_life_support_is_protected(workload: str) -> None:
    """Workloads that give a node its network, services and volumes are protected (P8)."""
    assert is_protected(workload, LIFE_SUPPORT)


@pytest.mark.parametrize("workload", ["monitoring/telemetry", "logging/fluent-bit", "a/csi", "x/y"])
def test_ordinary_workloads_are_not_protected(workload: str) -> None:
    """The default list must not protect the workloads that people want to stop."""
    assert not is_protected(workload, LIFE_SUPPORT)
