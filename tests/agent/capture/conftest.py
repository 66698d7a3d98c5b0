# SPDX-License-Identifier: Apache-2.0
"""A node with one pod, and captures with all the time they need."""

from pathlib import Path

import pytest

from breakglass.core import bounds
from tests.support.captured_node import PATIENCE_S, Node


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give captures all the time they need, except in tests of the timeout."""
    monkeypatch.setattr(bounds, "CAPTURE_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node with one pod."""
    return Node(tmp_path)
