# SPDX-License-Identifier: Apache-2.0
"""A home is found by any path, and one that is missing or unsound is an error."""

from pathlib import Path

import pytest

from breakglass.errors import ConfigInvalid
from breakglass.fleet.home.home import Home
from tests.support.homes import add


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
