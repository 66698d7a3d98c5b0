# SPDX-License-Identifier: Apache-2.0
"""The small fleet, as a fixture."""

from pathlib import Path

import pytest

from tests.support.small_fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Three nodes."""
    return Fleet(tmp_path, "n1", "n2", "n3")
