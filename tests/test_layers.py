# SPDX-License-Identifier: Apache-2.0
"""The map of who may import what, with the reason of each ban, read from the code's own imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "breakglass"
NO_IO = "core is pure: bytes and values in, values out"

# Below each place: what must not be imported there, and why.
BANS: dict[str, dict[str, str]] = {
    "core": {
        "asyncio": NO_IO,
        "grpc": NO_IO,
        "io": NO_IO,
        "logging": NO_IO,
        "os": NO_IO,
        "pathlib": NO_IO,
        "random": "core makes nothing up: entropy is an argument",
        "socket": NO_IO,
        "structlog": NO_IO,
        "subprocess": NO_IO,
        "time": "time is an argument, read once per decision",
        "breakglass.agent": "core knows nobody above it",
        "breakglass.fleet": "core knows nobody above it",
        "breakglass.sim": "core knows nobody above it",
        "breakglass.cli": "core knows nobody above it",
        "breakglass._pb": "core's types do not travel: they are converted where bytes enter",
    },
    "agent": {
        "breakglass.fleet": "node and bastion meet in core's types and in proto/",
        "breakglass.sim": "a node is not simulated",
        "breakglass.cli": "only cli prints, exits or reads argv",
        "click": "the agent installs four dependencies",
        "rich": "the agent installs four dependencies",
        "paramiko": "the agent installs four dependencies",
    },
    "fleet": {
        "breakglass.agent": "node and bastion meet in core's types and in proto/",
        "breakglass.sim": "the fleet reaches nodes by their roads only",
        "breakglass.cli": "only cli prints, exits or reads argv",
        "click": "text for people comes from cli",
        "rich": "text for people comes from cli",
        "structlog": "the fleet returns values; cli tells them",
    },
    "sim": {
        "breakglass.agent": "a simulated node knows no agent: they meet on the socket",
        "breakglass.fleet": "a simulated node knows no bastion",
        "breakglass.cli": "only cli prints, exits or reads argv",
    },
}
# Where each of these may be imported at all; elsewhere they are a leak through a layer.
HOMES: dict[str, tuple[str, ...]] = {
    "grpc": (
        "agent/cri.py",
        "agent/door.py",
        "agent/local.py",
        "agent/service.py",
        "fleet/roads/client.py",
        "fleet/roads/direct.py",
        "sim/client.py",
        "sim/cri_server.py",
        "sim/faults.py",
        "sim/node.py",
        "sim/records.py",
    ),
    "cryptography": (
        "agent/service.py",
        "core/checkpoint.py",
        "core/edwards.py",
        "core/sshkey.py",
        "fleet/identity.py",
    ),
    "click": ("cli/",),
    "rich": ("cli/",),
    "argparse": ("cli/",),
    "subprocess": ("agent/slices.py", "cli/keygen.py"),
}


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of each module that a file imports, at its top or inside."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def modules(place: str = "") -> list[Path]:
    """Return the product's modules below a place."""
    found = sorted((PACKAGE / place).rglob("*.py"))
    return [path for path in found if "_pb" not in path.parts]


def of(name: str, banned: str) -> bool:
    """Tell whether a module is the banned one or below it."""
    return name == banned or name.startswith(f"{banned}.")


@pytest.mark.parametrize("place", BANS)
def test_no_layer_imports_what_it_must_not(place: str) -> None:
    """Each ban holds, and its place is there."""
    found = modules(place)
    assert found, f"{place} has vanished"
    for path in found:
        for name in imports(path):
            for banned, reason in BANS[place].items():
                assert not of(name, banned), f"{path}: no {name}: {reason}"


@pytest.mark.parametrize("library", HOMES)
def test_a_library_stays_where_it_is_at_home(library: str) -> None:
    """What touches the outside is imported in few, named modules."""
    for path in modules():
        where = path.relative_to(PACKAGE).as_posix()
        if any(of(name, library) for name in imports(path)):
            assert where.startswith(HOMES[library]), f"{where} imports {library}"


def test_every_module_that_the_map_names_is_there() -> None:
    """A ban on what no longer exists would hold nothing."""
    for homes in HOMES.values():
        for home in homes:
            assert (PACKAGE / home).exists(), home
    for bans in BANS.values():
        for banned in bans:
            if banned.startswith("breakglass."):
                assert (PACKAGE / banned.removeprefix("breakglass.")).is_dir(), banned


def test_the_agents_program_needs_no_more_than_the_agents_dependencies() -> None:
    """`breakglass-agent` runs where neither click nor rich is installed."""
    for name in imports(PACKAGE / "cli" / "agent.py"):
        assert not any(of(name, one) for one in ("click", "rich", "breakglass.fleet")), name
