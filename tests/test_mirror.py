# SPDX-License-Identifier: Apache-2.0
"""The tests of breakglass/agent/pods/x.py stand in tests/agent/pods/test_x.py."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE, TESTS = ROOT / "breakglass", ROOT / "tests"
# Modules that are tested under another name, and where.  Each held node assembles an agent.
ELSEWHERE = {
    "agent/assembly.py": "tests/support/held_node.py",
    "agent/capture/port.py": "tests/agent/capture/test_store.py",
    "agent/capture/sources.py": "tests/agent/capture/test_store.py",
    "agent/clock.py": "tests/real/test_hold.py",
    "agent/command/execute.py": "tests/agent/command/test_stop.py",
    "agent/command/procedure.py": "tests/agent/command/test_stop.py",
    "agent/hold/limit_setter.py": "tests/agent/hold/test_faults.py",
    "agent/kernel/pod_search.py": "tests/agent/kernel/test_hierarchy.py",
    "agent/kernel/port.py": "tests/contract/test_kernel.py",
    "agent/kernel/systemd.py": "tests/agent/kernel/test_limits.py",
    "agent/log/disk.py": "tests/real/test_durable.py",
    "agent/log/replay.py": "tests/agent/log/test_auditlog.py",
    "agent/log/space.py": "tests/agent/log/test_auditlog.py",
    "agent/runtime/cri.py": "tests/contract/test_runtime.py",
    "agent/runtime/oci.py": "tests/agent/hold/test_watch.py",
    "agent/runtime/port.py": "tests/contract/test_runtime.py",
    "agent/serve/client.py": "tests/cli/test_delivery.py",
    "agent/serve/listeners.py": "tests/real/test_listeners.py",
    "agent/serve/service.py": "tests/real/test_forgery.py",
    "agent/stop/container.py": "tests/agent/stop/test_ladder.py",
    "fleet/evidence/receipts.py": "tests/fleet/rollout/test_deliver.py",
    "fleet/evidence/store.py": "tests/fleet/rollout/test_deliver.py",
    "fleet/home/bundle.py": "tests/fleet/home/test_home.py",
    "fleet/home/founding.py": "tests/fleet/home/test_home.py",
    "fleet/roads/fanout.py": "tests/fleet/rollout/test_deliver.py",
    "fleet/roads/grpc.py": "tests/fleet/roads/test_direct.py",
    "fleet/roads/port.py": "tests/fleet/roads/test_direct.py",
    "fleet/rollout/outcomes.py": "tests/fleet/rollout/test_deliver.py",
    "fleet/rollout/roll_out.py": "tests/fleet/rollout/test_deliver.py",
    "fleet/rollout/rows.py": "tests/fleet/rollout/test_deliver.py",
}
MODULES = sorted(
    path.relative_to(PACKAGE)
    for layer in ("agent", "fleet")
    for path in (PACKAGE / layer).rglob("*.py")
    if path.name != "__init__.py"
)


def mirrored(module: Path) -> Path:
    """Return where the tests of a module stand."""
    return TESTS / module.parent / f"test_{module.name}"


@pytest.mark.parametrize("module", MODULES, ids=Path.as_posix)
def test_a_module_has_its_tests_at_its_path(module: Path) -> None:
    """Or it stands in the table above; an entry that is not needed fails."""
    elsewhere = ELSEWHERE.get(module.as_posix())
    if elsewhere is None:
        assert mirrored(module).exists(), mirrored(module)
    else:
        assert (ROOT / elsewhere).exists(), elsewhere
        assert not mirrored(module).exists(), f"{module} needs no entry"


def test_every_entry_names_a_module() -> None:
    """A module that is gone takes its entry along."""
    assert set(ELSEWHERE) <= {module.as_posix() for module in MODULES}
