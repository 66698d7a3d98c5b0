# SPDX-License-Identifier: Apache-2.0
"""The walks in CONTRIBUTING.md name functions that exist, and its commands tests that exist."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WALKS = TEXT.partition("\n## Where does X happen\n")[2].partition("\n## ")[0]
HOPS = sorted(set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+):([A-Za-z_.]+)`", WALKS)))
TESTS = sorted(set(re.findall(r"\btests/[\w./]+(?:::\w+)?", TEXT)))


@pytest.mark.parametrize(("module", "name"), HOPS, ids=[":".join(hop) for hop in HOPS])
def test_a_hop_of_a_walk_exists(module: str, name: str) -> None:
    """A function or method that is renamed takes its walk along."""
    found = importlib.import_module(f"breakglass.{module}")
    assert callable(reduce(getattr, name.split("."), found))


def test_there_are_four_walks_of_numbered_hops() -> None:
    """Each item is one hop and one clause, numbered from 1."""
    walks = re.split(r"^\*\*.*\*\*$", WALKS, flags=re.MULTILINE)[1:]
    assert len(walks) == 4
    for walk in walks:
        items = walk.strip().splitlines()
        assert len(items) > 5
        for number, item in enumerate(items, 1):
            assert re.fullmatch(rf"{number}\. `[\w.]+:[\w.]+` [^`]+\.", item), item


@pytest.mark.parametrize("named", TESTS)
def test_a_test_that_is_named_exists(named: str) -> None:
    """The commands can be copied."""
    path, _, function = named.rstrip(".").partition("::")
    assert (ROOT / path).exists()
    assert not function or f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")
