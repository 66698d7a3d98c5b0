# SPDX-License-Identifier: Apache-2.0
"""A home with three people, as fixtures."""

from pathlib import Path

import pytest

from breakglass.fleet.home.founding import Founder, found
from breakglass.fleet.home.home import Home
from tests.support import ssh_keys
from tests.support.homes import NOW


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
