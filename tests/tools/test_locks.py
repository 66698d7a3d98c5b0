# SPDX-License-Identifier: Apache-2.0
"""Each lock is complete, so that pip needs no resolver, and nothing in it goes without a hash.

What a package requires is read from its installed metadata: the dev lock holds the others.
"""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("agent", "cli", "build", "dev")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
CLAIMED = [
    one.rpartition(" ")[2]
    for one in PYPROJECT["project"]["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", one)
]


def entries(lock: str) -> list[list[str]]:
    """Return the entries of a lock, each as its requirement and its options."""
    text = (ROOT / f"requirements/{lock}.lock").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    return [re.split(r"\s+(?=--)", line.strip()) for line in lines]


def applies(one: Requirement, python: str, extra: str = "") -> bool:
    """Tell whether a requirement counts on Linux, in CPython of this version."""
    machine = {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
    machine |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    machine |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return one.marker is None or one.marker.evaluate(machine)


def pins(lock: str, python: str) -> dict[str, str]:
    """Return the versions that a lock installs, by name."""
    found = [Requirement(requirement) for requirement, *_ in entries(lock)]
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in found
        if applies(one, python)
    }


def asked_for(lock: str) -> list[Requirement]:
    """Return what pyproject.toml asks for directly, for one lock."""
    groups = PYPROJECT["dependency-groups"]
    named: list[str] = []
    if lock != "build":
        named += PYPROJECT["project"]["dependencies"]
    if lock in {"cli", "dev"}:
        named += PYPROJECT["project"]["optional-dependencies"]["cli"]
    if lock in {"build", "dev"}:
        named += groups["build"]
    if lock == "dev":
        named += [one for one in groups["dev"] if isinstance(one, str)]
    return [Requirement(one) for one in named]


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_is_pinned_by_version_and_hash(lock: str) -> None:
    """An exact version, and at least one SHA-256; no address and no other option of pip's."""
    assert entries(lock)
    for requirement, *options in entries(lock):
        (pin,) = Requirement(requirement).specifier
        assert pin.operator == "==", requirement
        assert options, requirement
        assert all(HASH.fullmatch(one) for one in options), requirement


@pytest.mark.parametrize("python", CLAIMED)
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_all_that_is_required_and_no_more(lock: str, python: str) -> None:
    """From what pyproject.toml asks for, requirement by requirement, extras included."""
    locked, todo = pins(lock, python), asked_for(lock)
    missing: list[str] = []
    reached: set[tuple[str, str]] = set()
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if name not in locked or not one.specifier.contains(locked[name]):
            missing.append(f"{one}, locked: {locked.get(name)}")
            continue
        for extra in ("", *one.extras):
            if (name, extra) not in reached:
                reached.add((name, extra))
                inner = map(Requirement, distribution(name).requires or ())
                todo += [each for each in inner if applies(each, python, extra)]
    assert missing == []
    assert {name for name, _ in reached} == set(locked)


@pytest.mark.parametrize(("less", "more"), [("agent", "cli"), ("cli", "dev"), ("build", "dev")])
def test_the_locks_agree(less: str, more: str) -> None:
    """What a node or a bastion installs is what the tests ran with."""
    for python in CLAIMED:
        assert pins(less, python).items() <= pins(more, python).items()


def test_these_tests_run_with_what_is_locked() -> None:
    """Otherwise the requirements that they read would be those of other versions."""
    for name, version in pins("dev", CLAIMED[0]).items():
        assert distribution(name).version == version


def test_the_build_is_the_one_that_is_locked() -> None:
    """The build asks for exactly what the build lock is made from."""
    assert PYPROJECT["build-system"]["requires"] == PYPROJECT["dependency-groups"]["build"]
