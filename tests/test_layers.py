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
        "breakglass.agent": "core knows no layer above it",
        "breakglass.fleet": "core knows no layer above it",
        "breakglass.sim": "core knows no layer above it",
        "breakglass.cli": "core knows no layer above it",
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
# What stands beside the installed package, and why nothing in that package may import it.
NOT_INSTALLED = {
    "breakglass.sim": "no wheel has sim (docs/adr/0022): only a checkout simulates nodes",
    "lab": "the lab is not installed",
    "scenarios": "stories are not installed",
    "tests": "tests are not installed",
    "benchmarks": "benchmarks are not installed",
    "tools": "the checkout's own tools are not installed",
}
# Below each room of the checkout: what must not be imported there, and why.
ROOMS: dict[str, dict[str, str]] = {
    "lab": {
        "scenarios": "a machine knows none of the stories told on it",
        "tests": "tests, stories and benchmarks share the lab: it depends on none of them",
        "benchmarks": "tests, stories and benchmarks share the lab: it depends on none of them",
    },
    "scenarios": {
        "breakglass.agent": "a story sees a node as people do: by the two programs",
        "breakglass._pb": "a story sees a node as people do: by the two programs",
        "tests": "tests import stories, so that both run the command line in one way",
        "benchmarks": "a story measures what people wait for, and compares it with nothing",
    },
}
# Where each of these may be imported at all; elsewhere they are a leak through a layer.
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

# The wings of a layer: which others each may import, and why no more.  All may import core.
BELOW_HOLD = ("stop", "pods", "log", "kernel", "runtime")
WINGS: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "agent": {
        "kernel": ((), "control groups are found and changed without knowing who asks, or why"),
        "runtime": ((), "the runtime's client knows no control groups and no commands"),
        "log": (("clock",), "the log keeps entries: it knows no pods, runtime or control groups"),
        "pods": (("kernel", "runtime", "clock"), "finding pods changes nothing"),
        "stop": (("kernel", "runtime", "clock"), "commands and holds both stop: it knows neither"),
        "capture": (("log", "clock"), "a capture reads files; it needs nothing that may be stuck"),
        "hold": ((*BELOW_HOLD, "clock"), "a hold outlives its command, and must not need one"),
        "command": (
            ("hold", "capture", *BELOW_HOLD, "clock"),
            "what a command does is the same on every way in",
        ),
        "serve": (
            ("command", "hold", "pods", "log", "runtime", "clock", "config"),
            "the way in reads and delivers: it neither stops, nor holds, nor touches the kernel",
        ),
    },
    "fleet": {
        "home": ((), "what a bastion keeps is there without any node"),
        "roads": (("home",), "a road carries bytes and verifies nothing"),
        "evidence": (("home", "roads"), "what is proven does not depend on what was asked for"),
        "rollout": (("home", "roads", "evidence"), "the top of the bastion, below cli"),
    },
}

# The port through which limits are set, and who may have it.
LIMITS_PORT = "agent.kernel.port.GroupLimits"
SETS_LIMITS = ("agent/hold/", "agent/release_all.py", "agent/kernel/")


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
    """Its purpose, its one reason to change, what it may touch, what it promises; no code."""
    for layer, wings in WINGS.items():
        for wing in wings:
            (docstring,) = ast.parse(
                (PACKAGE / layer / wing / "__init__.py").read_text(encoding="utf-8")
            ).body
            assert isinstance(docstring, ast.Expr)
            text = ast.unparse(docstring)
            assert all(part in text for part in ("Reason to change:", "May touch:", "Promises:"))


def test_the_installed_package_imports_nothing_that_is_not_installed() -> None:
    """Else the program would run in a checkout, and fail on a node or on a bastion."""
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] == "sim":
            continue
        for name in imports(path):
            for banned, reason in NOT_INSTALLED.items():
                assert not of(name, banned), f"{path}: no {name}: {reason}"


def test_a_simulated_node_needs_only_the_package() -> None:
    """`sim` stands below the lab: it is what the lab's simulated nodes are made of."""
    for path in modules("sim"):
        for name in imports(path):
            for banned in NOT_INSTALLED.keys() - {"breakglass.sim"}:
                assert not of(name, banned), f"{path}: no {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_of_the_checkout_imports_what_it_must_not(room: str) -> None:
    """`breakglass <- lab <- scenarios <- tests`: machines, stories told on them, checks of both."""
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"{room} has vanished"
    for path in found:
        for name in imports(path):
            for banned, reason in ROOMS[room].items():
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
    """`breakglass-agent` runs where neither click nor rich is installed."""
    for name in imports(PACKAGE / "cli" / "agent.py"):
        assert not any(of(name, one) for one in ("click", "rich", "breakglass.fleet")), name
