# SPDX-License-Identifier: Apache-2.0
"""Homes, founding, nodes and their bundles."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from breakglass.agent.config import load, read_identity
from breakglass.core.pods import is_protected
from breakglass.errors import BreakglassError, ConfigInvalid
from breakglass.fleet.home.bundle import LIFE_SUPPORT, add_node, write_bundle
from breakglass.fleet.home.founding import Founder, found
from breakglass.fleet.home.home import Home
from breakglass.fleet.home.identity import spki_sha256
from breakglass.fleet.home.inventory import parse_address
from tests.support import ssh_keys

NOW = datetime(2026, 11, 21, 4, 0, 0, 123, tzinfo=UTC)


@pytest.fixture
def people(tmp_path: Path) -> tuple[tuple[str, Path], ...]:
    """Three people's public key files."""
    made = []
    for name in ("ana", "bo", "luc"):
        path = tmp_path / f"{name}.pub"
        path.write_text(f"{ssh_keys.ed25519(name).line} {name}@example\n")
        made.append((name, path))
    return tuple(made)


@pytest.fixture
def home(tmp_path: Path, people: tuple[tuple[str, Path], ...]) -> Home:
    """A founded home."""
    founder = Founder(domain="example", people=people, quorum=2)
    return found(tmp_path / "home", founder, courier="bastion", now=NOW)[0]


def add(home: Home, name: str, address: str = "192.0.2.1:7443") -> None:
    """Add a node as `node add` does."""
    add_node(home, name=name, cluster="prod-a", pool="", address=parse_address(address), now=NOW)


def test_a_founded_home_holds_what_it_says(home: Home) -> None:
    """Trust version 1, a quorum of 2, the courier's pin, an empty inventory, private files."""
    trust = Home.at(home.path).trust()
    assert (trust.domain, trust.version) == ("example", 1)
    (policy,) = trust.policies
    assert [(one.group, one.approvals) for one in policy.quorum] == [("people", 2)]
    assert not policy.requester_may_approve
    assert policy.max_hold_s == 24 * 3600
    assert trust.couriers[0].spki_sha256 == spki_sha256(home.courier().certificate)
    assert home.inventory().nodes == ()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(one.stat().st_mode) & 0o077 == 0 for one in home.path.rglob("*"))


def test_a_home_may_be_named_by_a_relative_path(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that were stored through a relative path are found through the absolute one."""
    monkeypatch.chdir(tmp_path)
    relative = Home.at(Path("home"))
    add(relative, "n1")
    (node,) = relative.inventory().nodes
    assert relative.node_keys(node) == home.node_keys(node)
    assert relative.ca_certificate() == home.ca_certificate()


@pytest.mark.parametrize(
    ("pick", "quorum", "code"),
    [
        (slice(0, 0), 2, "too-few-people"),
        (slice(0, 1), 2, "too-few-people"),
        (slice(0, 2), 1, "quorum-unsatisfiable"),
        (slice(0, 2), 3, "quorum-unsatisfiable"),
        (slice(0, 2), -1, "quorum-unsatisfiable"),
    ],
)
def test_one_person_or_an_impossible_quorum_is_refused(
    tmp_path: Path, people: tuple[tuple[str, Path], ...], pick: slice, quorum: int, code: str
) -> None:
    """One person alone must not stop pods; nothing is written after a refusal."""
    founder = Founder(domain="example", people=people[pick], quorum=quorum)
    with pytest.raises(BreakglassError) as error:
        found(tmp_path / "home", founder, courier="bastion", now=NOW)
    assert error.value.stable_code == code
    assert not (tmp_path / "home").exists()


def test_one_key_of_two_people_is_refused(
    tmp_path: Path, people: tuple[tuple[str, Path], ...]
) -> None:
    """Otherwise one person could approve twice."""
    twice = (people[0], ("eve", people[0][1]))
    with pytest.raises(BreakglassError, match="once"):
        found(
            tmp_path / "home",
            Founder(domain="example", people=twice, quorum=2),
            courier="bastion",
            now=NOW,
        )


def test_a_private_key_file_is_refused(
    tmp_path: Path, people: tuple[tuple[str, Path], ...]
) -> None:
    """A private key given by mistake is not read into a trust."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    founder = Founder(domain="example", people=(*people, ("eve", secret)), quorum=2)
    with pytest.raises(BreakglassError) as error:
        found(tmp_path / "home", founder, courier="bastion", now=NOW)
    assert error.value.stable_code == "private-key"


def test_a_home_is_not_made_over_another(home: Home, people: tuple[tuple[str, Path], ...]) -> None:
    """A second `init` leaves the first trust as it is."""
    before = home.trust_text()
    founder = Founder(domain="other", people=people, quorum=2)
    with pytest.raises(BreakglassError) as error:
        found(home.path, founder, courier="bastion", now=NOW)
    assert error.value.stable_code == "exists"
    assert home.trust_text() == before


def test_no_home_and_an_unsound_trust_are_said(tmp_path: Path, home: Home) -> None:
    """Each is an error with its own code."""
    with pytest.raises(ConfigInvalid) as missing:
        Home.at(tmp_path / "nowhere")
    assert missing.value.stable_code == "no-home"
    (home.path / "trust" / "2.json").write_bytes(b"{}\n")
    with pytest.raises(ConfigInvalid, match="in the home's trust"):
        home.trust()
    for file in (home.path / "trust").iterdir():
        file.unlink()
    with pytest.raises(ConfigInvalid) as none:
        home.trust()
    assert none.value.stable_code == "no-trust"


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
