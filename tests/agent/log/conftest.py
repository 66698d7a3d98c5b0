# SPDX-License-Identifier: Apache-2.0
"""The folder of a log."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a log."""
    return tmp_path / "log"
