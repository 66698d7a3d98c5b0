# SPDX-License-Identifier: Apache-2.0
"""The tests of breakglass/agent/pods/x.py are in tests/agent/pods/test_x.py, or test_x_more.py."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("agent", "fleet")
# Modules without a test file of their own: where their tests are, and why there.
ELSEWHERE = {
    "agent/assembly.py": ("tests/support/held_node.py", "each held node is one assembly"),
    "agent/capture/port.py": ("tests/agent/capture/test_store.py", "values and a Protocol"),
    "agent/command/execute.py": ("tests/agent/command/test_stop.py", "one command is one run"),
    "agent/command/procedure.py": ("tests/agent/command/test_stop.py", "one command is one run"),
    "agent/hold/limit_setter.py": ("tests/agent/hold/test_faults.py", "each of its effects fails"),
    "agent/kernel/port.py": ("tests/contract/test_kernel.py", "one suite over fake and real"),
    "agent/log/disk.py": ("tests/real/test_durable.py", "its effects are system calls"),
    "agent/runtime/cri.py": ("tests/contract/test_runtime.py", "one suite over fake and real"),
    "agent/runtime/port.py": ("tests/contract/test_runtime.py", "one suite over fake and real"),
    "agent/serve/client.py": ("tests/cli/test_delivery.py", "it needs a running agent"),
    "agent/serve/listeners.py": ("tests/real/test_listeners.py", "it needs a running agent"),
    "agent/serve/service.py": ("tests/real/test_forgery.py", "it needs a running agent"),
    "fleet/roads/port.py": ("tests/fleet/roads/test_grpc.py", "values and a Protocol"),
}
# Test files that are of a whole wing.
OF_A_WING = {
    "agent/hold/test_faults.py": "each effect of a hold fails, whichever module it is in",
    "agent/hold/test_kept.py": "what all modules keep of a pod ends with it",
}
MODULES = sorted(
    path.relative_to(ROOT / "breakglass").as_posix()
    for layer in LAYERS
    for path in (ROOT / "breakglass" / layer).rglob("*.py")
    if path.name != "__init__.py"
)
TESTS = sorted(
    path.relative_to(ROOT / "tests").as_posix()
    for layer in LAYERS
    for path in (ROOT / "tests" / layer).rglob("test_*.py")
)


def module_of(test: str) -> str | None:
    """Return the module that a test file is of by its path; None when there is none."""
    folder, _, name = test.rpartition("/")
    words = name.removeprefix("test_").removesuffix(".py").split("_")
    for count in range(len(words), 0, -1):
        module = f"{folder}/{'_'.join(words[:count])}.py"
        if module in MODULES:
            return module
    return None


MIRRORED = {module_of(test) for test in TESTS}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_tests_at_its_path(module: str) -> None:
    """Or it is in the table with a reason; an entry that is not needed fails."""
    if module in ELSEWHERE:
        path, reason = ELSEWHERE[module]
        assert (ROOT / path).exists(), path
        assert reason
        assert module not in MIRRORED, f"{module} needs no entry"
    else:
        assert module in MIRRORED, f"no test of {module} at its path"


@pytest.mark.parametrize("test", TESTS)
def test_a_test_file_is_of_a_module(test: str) -> None:
    """Or it is of a whole wing; an entry that is not needed fails."""
    assert (module_of(test) is None) == (test in OF_A_WING), test


def test_every_entry_names_a_file() -> None:
    """A module or a test file that is gone takes its entry along."""
    assert set(ELSEWHERE) <= set(MODULES)
    assert set(OF_A_WING) <= set(TESTS)


def test_the_path_tells_the_module() -> None:
    """The longest name counts: `roll_out` is no `roll`."""
    assert module_of("fleet/rollout/test_roll_out.py") == "fleet/rollout/roll_out.py"
    assert module_of("agent/pods/test_inventory_wait.py") == "agent/pods/inventory.py"
    assert module_of("agent/pods/test_none.py") is None
