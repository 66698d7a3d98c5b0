# SPDX-License-Identifier: Apache-2.0
"""The worlds of the running test: when it fails, pytest prints their states and logs.

    self._shown = worlds.show("held node", self._describe)

`tests/conftest.py` prints each world below the failure, and forgets it after the test.  A world
that an exception ends calls `freeze` on what `show` returned, before it takes itself apart.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

MAX_WORLDS = 6  # the newest; a property makes a world for each example
MAX_LINES = 200
MAX_COLUMNS = 300

Describe = Callable[[], Iterable[str]]


class Shown:
    """One world of the running test, described when it is asked for or when it is frozen."""

    def __init__(self, name: str, describe: Describe) -> None:
        self.name = name
        self._describe = describe
        self._frozen = ""

    def freeze(self) -> None:
        """Describe the world as it is now; later states are not printed."""
        self._frozen = self.text()

    def text(self) -> str:
        """Return the description, bounded in lines and columns."""
        return self._frozen or _bounded(_caught(self._describe))


_shown: deque[Shown] = deque(maxlen=MAX_WORLDS)


def show(name: str, describe: Describe) -> Shown:
    """Print a world if the running test fails.

    Args:
        name: the title of its section.
        describe: returns its lines; called after the failure, outside of any event loop.
    """
    shown = Shown(name, describe)
    _shown.append(shown)
    return shown


def sections() -> list[tuple[str, str]]:
    """Return the title and the text of each world of the running test."""
    return [(one.name, one.text()) for one in _shown]


def forget() -> None:
    """Forget the worlds of a test that is over."""
    _shown.clear()


def _caught(describe: Describe) -> Iterator[str]:
    """Yield the lines of a description, and the error that ends it."""
    try:
        yield from describe()
    except Exception as error:  # noqa: BLE001 - a broken world must not hide why the test failed
        yield f"(the description ended: {error!r})"


def _bounded(lines: Iterable[str]) -> str:
    found = [line if len(line) <= MAX_COLUMNS else f"{line[:MAX_COLUMNS]}..." for line in lines]
    cut = len(found) - MAX_LINES
    return "\n".join([f"({cut} earlier lines left out)", *found[-MAX_LINES:]] if cut > 0 else found)
