# SPDX-License-Identifier: Apache-2.0
"""Style rules that a linter cannot check: sizes, frozen values, the error tree, messages."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import breakglass
from breakglass import errors
from breakglass.core.reasons import HINTS, Reason
from breakglass.errors import BreakglassError

ROOT = Path(__file__).parent.parent
MODULE_LINES, FUNCTION_LINES = 400, 50
# Dataclasses that may change after they are made; every other one must be frozen.
MUTABLE = {
    "breakglass.agent.command.procedure._Running",
    "breakglass.agent.log.replay.Replay",
    "breakglass.fleet.evidence.receipts.NodeEvidence",
    "breakglass.fleet.rollout.deliver.Delivery",
    "breakglass.sim.faults.Fault",
    "breakglass.sim.kernel.Group",
    "breakglass.sim.kernel.KernelFault",
    "breakglass.sim.records.SimContainer",
    "breakglass.sim.records.SimSandbox",
}


# Errors whose messages compare (parsers, validators, verifiers), and errors that say what failed.
CHECKS = {
    "BadProof",
    "BadSignature",
    "ConfigInvalid",
    "Defect",
    "EvidenceError",
    "InputError",
    "LogTampered",
    "Malformed",
    "UsageError",
}
STATEMENTS = {
    "FileUnreadable",
    "GateFailed",
    "Interrupted",
    "LogUnknown",
    "NodeError",
    "RuntimeTooOld",
    "RuntimeUnavailable",
    "StateUnwritable",
    "ToolMissing",
    "Unreached",
}
# A refusal compares where there is a bound or a quorum, and says what is so elsewhere.
EITHER = {"BreakglassError", "RefusedError"}


def sources(*places: str) -> list[Path]:
    """Return our Python files below these places, without generated ones."""
    found = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    return [path for path in found if "_pb" not in path.parts]


OURS = sources("breakglass", "lab", "scenarios", "tools", "benchmarks", "tests")
PRODUCT = sources("breakglass")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_has_its_licence_and_a_docstring(path: Path) -> None:
    """The SPDX line comes first, then a docstring; only an `__init__.py` may have no docstring."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_and_functions_stay_small(path: Path) -> None:
    """A module has at most 400 lines, a function at most 50 without its docstring."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    for function in functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        lines -= (ast.get_docstring(function) or "").count("\n") + 1
        assert lines <= FUNCTION_LINES, f"{function.name} has {lines} lines"


def loaded() -> Iterator[object]:
    """Import every module of the product and yield it."""
    for found in pkgutil.walk_packages(breakglass.__path__, "breakglass."):
        if "._pb" not in found.name:
            yield importlib.import_module(found.name)


def dataclasses_of_ours() -> Iterator[tuple[str, type]]:
    """Yield the full name of each dataclass of the product, and the class."""
    for module in loaded():
        for value in vars(module).values():
            if not inspect.isclass(value) or not dataclasses.is_dataclass(value):
                continue
            if value.__module__.startswith("breakglass."):
                yield f"{value.__module__}.{value.__qualname__}", value


def is_frozen(value: type) -> bool:
    """Return whether a dataclass's instances cannot change and cannot get another attribute."""
    return bool(value.__dataclass_params__.frozen and "__slots__" in vars(value))  # type: ignore[attr-defined]


def test_values_are_frozen_and_slotted() -> None:
    """Every dataclass is frozen and slotted unless it is exempted; an unused exemption fails."""
    mutable = {name for name, value in dataclasses_of_ours() if not is_frozen(value)}
    assert mutable == MUTABLE


def definitions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the meaning of each class, alias and constant of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            yield node.name, f"a class of {path}"
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, ast.unparse(node.value)


def test_a_name_has_one_meaning_in_the_whole_package() -> None:
    """No two classes or aliases share a name, and no bound has two values (its unit marks it)."""
    meanings: dict[str, set[str]] = {}
    for path in PRODUCT:
        for name, meaning in definitions(path):
            bare = name.lstrip("_")
            is_type = bare[:1].isupper() and not bare.isupper()
            is_bound = re.fullmatch(r"[A-Z][A-Z0-9_]*", bare) and (
                bare.startswith("MAX_") or bare.endswith(("_S", "_MS", "_BYTES", "_CHARS"))
            )
            if is_type or is_bound:
                meanings.setdefault(bare, set()).add(meaning)
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}


def tree(of: type[BreakglassError], depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield depth and name of each class of the error tree in `errors`, in definition order."""
    yield depth, of.__name__
    for child in of.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child, depth + 1)


def test_the_drawing_of_the_error_tree_is_the_tree() -> None:
    """The tree drawn in the docstring of `errors` equals the tree of the classes."""
    drawn = errors.__doc__ or ""
    branches = re.findall(r"^    ((?:[│ ]   )*)(├── |└── )?([A-Z]\w+)", drawn, re.MULTILINE)
    found = [(len(bars) // 4 + bool(branch), name) for bars, branch, name in branches]
    assert branches
    assert found == list(tree(BreakglassError))


def test_error_codes_are_unique() -> None:
    """Scripts rely on the codes, so no two classes share one."""
    classes = [getattr(errors, name) for _, name in tree(BreakglassError)]
    codes = [one.code for one in classes]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_every_reason_has_a_hint_in_lower_case() -> None:
    """A hint begins in lower case and has no full stop."""
    assert set(HINTS) == set(Reason)
    for hint in HINTS.values():
        assert hint[0].islower() or hint[0] in "`0123456789"
        assert not hint.endswith(".")


def messages() -> Iterator[tuple[str, str, str]]:
    """Yield where one of our errors is made, its class, and how its message begins."""
    ours = {name for _, name in tree(BreakglassError)}
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ours or not node.args:
                continue
            first = node.args[0]
            if isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.Constant):
                first = first.values[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield f"{path}:{node.lineno}", node.func.id, first.value


def test_what_checks_input_says_what_it_expected() -> None:
    """Parsers, validators and verifiers say "expected X, got Y"."""
    for where, kind, message in messages():
        if kind in CHECKS:
            assert message.startswith("expected "), where


def test_what_could_not_be_done_is_said_plainly() -> None:
    """Other errors say what happened, to what: "expected no error, got one" says neither."""
    for where, kind, message in messages():
        assert not message.rstrip().endswith("."), where
        assert message[0] == message[0].lower(), where
        if kind in STATEMENTS:
            assert not message.startswith("expected "), where


def test_every_error_is_a_check_or_a_statement() -> None:
    """Each class has a rule for its messages; refusals may follow either."""
    judged = CHECKS | STATEMENTS | EITHER
    assert judged == {name for _, name in tree(BreakglassError)}
    assert len(judged) == len(CHECKS) + len(STATEMENTS) + len(EITHER)


def test_only_cli_prints_or_exits() -> None:
    """Only `cli` writes text for people."""
    for path in PRODUCT:
        if "cli" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in {"print", "sys.exit", "exit", "quit"}, f"{path}:{node.lineno}"
