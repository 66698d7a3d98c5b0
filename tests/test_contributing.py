# SPDX-License-Identifier: Apache-2.0
"""The walks in CONTRIBUTING.md name functions that exist."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
HOPS = sorted(set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+):([A-Za-z_.]+)`", TEXT)))


@pytest.mark.parametrize(("module", "name"), HOPS, ids=[":".join(hop) for hop in HOPS])
def test_a_hop_of_a_walk_exists(module: str, name: str) -> None:
    """A function or method that is renamed takes its walk along."""
    found = importlib.import_module(f"breakglass.{module}")
    assert callable(reduce(getattr, name.split("."), found))


def test_there_are_four_walks() -> None:
    """Each is a list of several hops."""
    walks = TEXT.split("## Where does X happen")[1].split("\n## ")[0]
    assert len(re.findall(r"^\*\*.*\*\*$", walks, re.MULTILINE)) == 4
    assert len(HOPS) > 20
