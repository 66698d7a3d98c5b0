# SPDX-License-Identifier: Apache-2.0
"""The modules of core have no import cycles, imports for types included."""

import ast
import graphlib
from pathlib import Path

import breakglass.core

HOME = Path(breakglass.core.__file__).parent


def imported(path: Path) -> set[str]:
    """Return the modules of core that a module of core imports, under `TYPE_CHECKING` too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "breakglass.core":
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            package, _, name = (node.module or "").rpartition(".")
            found |= {name} if package == "breakglass.core" else set()
    return found


def test_no_module_of_core_imports_itself_through_others() -> None:
    """A cycle would mean that two modules are one concept, or share a concept without a module."""
    graph = {path.stem: imported(path) for path in HOME.glob("*.py")}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(graph)
    assert order.index("trust_lint") < order.index("trust")
