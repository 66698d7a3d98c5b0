# SPDX-License-Identifier: Apache-2.0
"""What the documents name is there: modules, tests, and pages that they link to."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    if path.name not in {"CHANGELOG.md", "LICENSE"}
)
# "agent/pods/test_inventory: `name`, `name`": a test module, and maybe tests in it.
_REFERENCE = re.compile(r"(?<![\w/])((?:\w+/)+test_\w+)(?:\.py)?((?:[:,] `\w+`)*)")
_LINK = re.compile(r"\]\(([^)#:]+?)(?:#[^)]*)?\)")
_MODULE = re.compile(r"`((?:core|agent|fleet|cli|sim|_pb)(?:/(?!test_)\w+)+\.py)`")


def references(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each test module that a text names, and the tests in it that it names."""
    for found in _REFERENCE.finditer(text):
        yield found[1].removeprefix("tests/"), tuple(re.findall(r"`(\w+)`", found[2]))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page: Path) -> None:
    """A renamed module or test takes its page along; a link leads somewhere."""
    text = page.read_text(encoding="utf-8")
    for module, names in references(text):
        path = TESTS / f"{module}.py"
        assert path.exists(), module
        source = path.read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf"def test_{name}\(", source), f"{module}: {name}"
    for module in _MODULE.findall(text):
        assert (ROOT / "breakglass" / module).exists(), module
    for link in _LINK.findall(text):
        assert (page.parent / link).exists(), link


def test_the_threat_model_is_read() -> None:
    """The pattern finds the tests that show what holds."""
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    named = [names for _, names in references(text)]
    assert sum(map(len, named)) > 60
