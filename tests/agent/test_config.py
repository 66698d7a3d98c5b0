# SPDX-License-Identifier: Apache-2.0
"""agent.toml is read strictly: every mistake is told with what was expected and what was got."""

from pathlib import Path

import pytest

from breakglass.agent.config import load, parse_address, parse_protected, read_identity
from breakglass.errors import ConfigInvalid, FileUnreadable, Malformed
from tests.support.agent_process import NodeFiles, Tls
from tests.support.organisation import Organisation

ORG = Organisation()
TLS = Tls.make()


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    """Return a node's good files."""
    return NodeFiles(folder=tmp_path, organisation=ORG, tls=TLS, runtime=tmp_path / "cri").write()


def changed(files: NodeFiles, old: str, new: str) -> Path:
    """Change one place in agent.toml."""
    text = files.config.read_text()
    assert old in text
    files.config.write_text(text.replace(old, new))
    return files.config


def test_good_settings_are_values(files: NodeFiles) -> None:
    """Names, paths relative to the file, and the log's own name come out."""
    config = load(files.config)
    assert (config.name, config.cluster, config.pool, config.skew_s) == ("n1", "prod-a", "gpu", 300)
    assert config.tls_key == files.folder / "key.pem"
    assert config.origin == "breakglass/example/prod-a/n1"
    identity = read_identity(config)
    assert identity.trust.sha256 == ORG.trust.sha256
    assert identity.log_seed == files.seed


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "n1"', 'name = "n1"\nnme = "x"', "no key 'node.nme'"),
        ('pool = "gpu"', "", "the key node.pool"),
        ('name = "n1"', 'name = "N 1"', "a name of 1 to 63"),
        ('name = "n1"', "name = 1", "text at node.name"),
        ('"127.0.0.1:0"', '"localhost:7443"', "an IP address and port"),
        ('"127.0.0.1:0"', '"127.0.0.1:99999"', "a port from 0 to 65535"),
        ('skew = "5m"', 'skew = "300s"', "the duration as '5m'"),
        ('skew = "5m"', 'skew = "2h"', "at most 1h"),
        ("[clock]", "[clocks]", "the key clock"),
        ('socket = "run/agent.sock"', 'socket = ""', "a path"),
        ("kube-system/kube-proxy", "kube-proxy", "a pattern namespace/name"),
        ("[node]", "[node", "TOML"),
    ],
)
def test_a_mistake_is_told(files: NodeFiles, old: str, new: str, message: str) -> None:
    """A wrong, missing or unknown setting stops the start, by name and file."""
    with pytest.raises(ConfigInvalid, match="expected") as caught:
        load(changed(files, old, new))
    assert message in caught.value.message
    assert str(files.config) in caught.value.message


def test_files_that_are_not_there_are_told(files: NodeFiles) -> None:
    """A missing or endless file is named, with the system's own words."""
    with pytest.raises(FileUnreadable, match="no such file"):
        load(files.folder / "nowhere.toml")
    files.config.write_bytes(b"#" * 300_000)
    with pytest.raises(FileUnreadable, match="more than 262144 bytes"):
        load(files.config)


@pytest.mark.parametrize(
    ("name", "content", "message", "code"),
    [
        ("trust.json", None, "no such file", "file-unreadable"),
        ("trust.json", b"{}\n", "the key type", "config-invalid"),
        ("log.key", b"zz\n", "64 hex digits", "config-invalid"),
        ("log.key", b"00\n", "got 2", "config-invalid"),
        ("key.pem", None, "no such file", "file-unreadable"),
    ],
)
def test_a_broken_identity_is_told(
    files: NodeFiles, name: str, content: bytes | None, message: str, code: str
) -> None:
    """Trust and keys are read before anything starts."""
    path = files.folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises((ConfigInvalid, FileUnreadable), match=r"expected|cannot read") as caught:
        read_identity(load(files.config))
    assert message in caught.value.message
    assert caught.value.stable_code == code


def test_another_trust_than_the_pinned_one_is_refused(files: NodeFiles) -> None:
    """P2: a process that can write the trust file cannot make the node believe it."""
    other = Organisation("mei tom ida")
    (files.folder / "trust.json").write_bytes(other.trust_text)
    with pytest.raises(ConfigInvalid, match="expected the pinned trust") as caught:
        read_identity(load(files.config))
    assert caught.value.stable_code == "trust-mismatch"


def test_a_trust_of_another_domain_is_refused(files: NodeFiles) -> None:
    """A node belongs to one domain."""
    with pytest.raises(ConfigInvalid, match="the trust of domain elsewhere, got example"):
        read_identity(load(changed(files, 'domain = "example"', 'domain = "elsewhere"')))


def test_addresses_and_patterns_have_one_spelling() -> None:
    """IPv6 stands in brackets; a star stands for any run of characters."""
    assert parse_address("[2001:DB8::1]:7443") == "[2001:db8::1]:7443"
    assert parse_protected("*/csi-*") == "*/csi-*"
    for text in ("a/b/c", "*", "a/", "/b", "UP/x"):
        with pytest.raises(Malformed, match="expected"):
            parse_protected(text)
