# SPDX-License-Identifier: Apache-2.0
"""Which part of the code may import which, with the reason of each ban, read from its imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "breakglass"
NO_IO = "core is pure: bytes and values in, values out"

# For each layer: what it must not import, and why.
BANS: dict[str, dict[str, str]] = {
    "core": {
        "asyncio": NO_IO,
        "grpc": NO_IO,
        "io": NO_IO,
        "logging": NO_IO,
        "os": NO_IO,
        "pathlib": NO_IO,
        "random": "core is deterministic: entropy is an argument",
        "socket": NO_IO,
        "structlog": NO_IO,
        "subprocess": NO_IO,
        "time": "time is an argument, read once per decision",
        "breakglass.agent": "core knows no layer above it",
        "breakglass.fleet": "core knows no layer above it",
        "breakglass.sim": "core knows no layer above it",
        "breakglass.cli": "core knows no layer above it",
        "breakglass._pb": "core's types do not travel: they are converted where bytes enter",
    },
    "agent": {
        "breakglass.fleet": "node and bastion share only core's types and proto/",
        "breakglass.sim": "the agent must not depend on the simulation",
        "breakglass.cli": "only cli prints, exits or reads argv",
        "click": "the agent installs four dependencies",
        "rich": "the agent installs four dependencies",
        "paramiko": "the agent installs four dependencies",
    },
    "fleet": {
        "breakglass.agent": "node and bastion share only core's types and proto/",
        "breakglass.sim": "the fleet must not depend on the simulation",
        "breakglass.cli": "only cli prints, exits or reads argv",
        "click": "text for people comes from cli",
        "rich": "text for people comes from cli",
        "structlog": "the fleet returns values; cli prints them",
    },
    "sim": {
        "breakglass.agent": "a simulated node and the agent share only the runtime's socket",
        "breakglass.fleet": "a simulated node does not depend on the bastion",
        "breakglass.cli": "only cli prints, exits or reads argv",
    },
}
# What a checkout has and the installed package lacks, and why the package must not import it.
NOT_INSTALLED = {
    "breakglass.sim": "no wheel has sim (docs/adr/0022): only a checkout simulates nodes",
    "lab": "the lab is not installed",
    "scenarios": "scenarios are not installed",
    "tests": "tests are not installed",
    "benchmarks": "benchmarks are not installed",
    "tools": "the checkout's own tools are not installed",
}
# For each other folder of the checkout: what it must not import, and why.
ROOMS: dict[str, dict[str, str]] = {
    "lab": {
        "scenarios": "the lab depends on none of its users",
        "tests": "the lab depends on none of its users",
        "benchmarks": "the lab depends on none of its users",
    },
    "scenarios": {
        "breakglass.agent": "a scenario uses a node as people do: by the two programs",
        "breakglass._pb": "a scenario uses a node as people do: by the two programs",
        "tests": "tests import scenarios, so that both run the command line in one way",
        "benchmarks": "a scenario needs no benchmark",
    },
}
# The only modules that may import each of these libraries.
HOMES: dict[str, tuple[str, ...]] = {
    "grpc": (
        "agent/runtime/cri.py",
        "agent/serve/listeners.py",
        "agent/serve/client.py",
        "agent/serve/handlers.py",
        "agent/serve/service.py",
        "fleet/roads/grpc.py",
        "fleet/roads/direct.py",
        "sim/client.py",
        "sim/cri_server.py",
        "sim/faults.py",
        "sim/node.py",
        "sim/records.py",
    ),
    "cryptography": (
        "agent/serve/service.py",
        "core/checkpoint.py",
        "core/edwards.py",
        "core/sshkey.py",
        "fleet/home/identity.py",
    ),
    "click": ("cli/",),
    "rich": ("cli/",),
    "argparse": ("cli/",),
    "subprocess": ("agent/kernel/systemd.py", "cli/keygen.py"),
}

# The wings of each layer: which wings each may import, and why no others.  All may import core.
BELOW_HOLD = ("stop", "pods", "log", "kernel", "runtime")
WINGS: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "agent": {
        "kernel": ((), "it finds and changes control groups, and does not depend on its callers"),
        "runtime": ((), "the runtime's client knows neither control groups nor commands"),
        "log": (("clock",), "the log keeps entries: it knows no pods, runtime or control groups"),
        "pods": (("kernel", "runtime", "clock"), "it finds pods and changes nothing"),
        "stop": (("kernel", "runtime", "clock"), "commands and holds both use it"),
        "capture": (("log", "clock"), "a capture reads files and needs nothing that may hang"),
        "hold": ((*BELOW_HOLD, "clock"), "a hold outlives its command and must not need it"),
        "command": (
            ("hold", "capture", *BELOW_HOLD, "clock"),
            "a command does the same, whichever listener received it",
        ),
        "serve": (
            ("command", "hold", "pods", "log", "runtime", "clock", "config"),
            "it receives commands and reads; it neither stops nor holds nor uses the kernel",
        ),
    },
    "fleet": {
        "home": ((), "the bastion's home is usable without any node"),
        "roads": (("home",), "a road carries bytes and verifies nothing"),
        "evidence": (("home", "roads"), "evidence is verified without knowing the rollout"),
        "rollout": (("home", "roads", "evidence"), "it is the top of the fleet, below cli"),
    },
}

# The port that sets limits, and which modules may import it.
LIMITS_PORT = "agent.kernel.port.GroupLimits"
SETS_LIMITS = ("agent/hold/", "agent/release_all.py", "agent/kernel/")


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of each module that a file imports, at the top or in a function."""
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
    """Return whether a module is the banned one or below it."""
    return name == banned or name.startswith(f"{banned}.")


@pytest.mark.parametrize("place", BANS)
def test_no_layer_imports_what_it_must_not(place: str) -> None:
    """No module of the layer imports a banned one, and the layer exists."""
    found = modules(place)
    assert found, f"{place} has vanished"
    for path in found:
        for name in imports(path):
            for banned, reason in BANS[place].items():
                assert not of(name, banned), f"{path}: no {name}: {reason}"


@pytest.mark.parametrize(
    ("layer", "wing"), [(layer, wing) for layer, wings in WINGS.items() for wing in wings]
)
def test_no_wing_imports_what_it_must_not(layer: str, wing: str) -> None:
    """`serve -> command -> {hold, capture} -> {stop, pods, log} -> {kernel, runtime}`."""
    allowed, reason = WINGS[layer][wing]
    found = modules(f"{layer}/{wing}")
    assert found, f"{layer}/{wing} has vanished"
    for path in found:
        for name in imports(path):
            if of(name, f"breakglass.{layer}"):
                other = name.split(".")[2]
                assert other in {wing, *allowed}, f"{path}: no {name}: {reason}"


def test_only_holds_and_the_way_out_set_limits() -> None:
    """A limit keeps a pod down, so only hold and release-all may set one."""
    port = f"breakglass.{LIMITS_PORT}"
    for path in modules("agent"):
        where = path.relative_to(PACKAGE).as_posix()
        if port in imports(path):
            assert where.startswith(SETS_LIMITS), f"{where} imports {port}"


def test_every_wing_is_on_the_map() -> None:
    """A folder that is not on the map has no rules."""
    for layer, wings in WINGS.items():
        folders = {
            one.name for one in (PACKAGE / layer).iterdir() if (one / "__init__.py").exists()
        }
        assert folders == set(wings)
        for allowed, _ in wings.values():
            for name in allowed:
                assert (PACKAGE / layer / name).exists() or (
                    PACKAGE / layer / f"{name}.py"
                ).exists()


def test_a_wings_init_says_what_it_is_for_and_exports_nothing() -> None:
    """It says purpose, reason to change, what it may touch and its promises, and has no code."""
    for layer, wings in WINGS.items():
        for wing in wings:
            (docstring,) = ast.parse(
                (PACKAGE / layer / wing / "__init__.py").read_text(encoding="utf-8")
            ).body
            assert isinstance(docstring, ast.Expr)
            text = ast.unparse(docstring)
            assert all(part in text for part in ("Reason to change:", "May touch:", "Promises:"))


def test_the_installed_package_imports_nothing_that_is_not_installed() -> None:
    """Otherwise the program would run in a checkout and fail on a node or a bastion."""
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] == "sim":
            continue
        for name in imports(path):
            for banned, reason in NOT_INSTALLED.items():
                assert not of(name, banned), f"{path}: no {name}: {reason}"


def test_a_simulated_node_needs_only_the_package() -> None:
    """`sim` is below the lab, which builds its simulated nodes from it."""
    for path in modules("sim"):
        for name in imports(path):
            for banned in NOT_INSTALLED.keys() - {"breakglass.sim"}:
                assert not of(name, banned), f"{path}: no {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_of_the_checkout_imports_what_it_must_not(room: str) -> None:
    """The direction is `breakglass <- lab <- scenarios <- tests`."""
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"{room} has vanished"
    for path in found:
        for name in imports(path):
            for banned, reason in ROOMS[room].items():
                assert not of(name, banned), f"{path}: no {name}: {reason}"


@pytest.mark.parametrize("library", HOMES)
def test_only_the_named_modules_import_a_library(library: str) -> None:
    """Libraries for I/O and cryptography are imported only in the modules of `HOMES`."""
    for path in modules():
        where = path.relative_to(PACKAGE).as_posix()
        if any(of(name, library) for name in imports(path)):
            assert where.startswith(HOMES[library]), f"{where} imports {library}"


def test_every_module_that_a_rule_names_exists() -> None:
    """A ban on a module that no longer exists would check nothing."""
    for homes in (*HOMES.values(), SETS_LIMITS):
        for home in homes:
            assert (PACKAGE / home).exists(), home
    assert any(f"breakglass.{LIMITS_PORT}" in imports(path) for path in modules("agent/hold"))
    for bans in (*BANS.values(), *ROOMS.values(), NOT_INSTALLED):
        for banned in bans:
            if banned.startswith("breakglass."):
                assert (PACKAGE / banned.removeprefix("breakglass.")).is_dir(), banned
    for room in NOT_INSTALLED.keys() - {"breakglass.sim"}:
        assert (ROOT / room).is_dir(), room


def test_the_agents_program_needs_no_more_than_the_agents_dependencies() -> None:
    """`breakglass-agent` runs without click and rich."""
    for name in imports(PACKAGE / "cli" / "agent.py"):
        assert not any(of(name, one) for one in ("click", "rich", "breakglass.fleet")), name
