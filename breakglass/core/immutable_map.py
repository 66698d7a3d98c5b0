# SPDX-License-Identifier: Apache-2.0
"""An immutable map whose changed copies share memory with the original.

`with_item` returns a new map and leaves the old one unchanged.  With copies of a dict, n additions
would take O(n^2) time; here they take O(n log n).

The map is a few dicts, oldest first, each more than twice as long as the next.  A lookup takes the
value from the newest dict that has the key.  An addition appends a dict of one item and merges it
with its neighbours until the lengths fit again (Bentley and Saxe, "Decomposable searching
problems", 1980).  A dict in a map is never written to: old maps stay valid, they can be extended
too, and any thread may read them.

Items cannot be removed.
"""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ImmutableMap(Mapping[K, V], Generic[K, V]):
    """An immutable map; it iterates in the order in which keys were first added, as a dict does."""

    __slots__ = ("_layers", "_size")

    _layers: tuple[dict[K, V], ...]
    _size: int

    def __init__(self) -> None:
        """Make an empty map."""
        self._layers = ()
        self._size = 0

    def with_item(self, key: K, value: V) -> "ImmutableMap[K, V]":
        """Return this map with `key` added, or with a new value for it."""
        layers = list(self._layers)
        newest = {key: value}
        while layers and len(layers[-1]) <= 2 * len(newest):
            newest = layers.pop() | newest
        changed: ImmutableMap[K, V] = ImmutableMap()
        changed._layers = (*layers, newest)
        changed._size = self._size + (key not in self)
        return changed

    def __getitem__(self, key: K) -> V:
        for layer in reversed(self._layers):
            if key in layer:
                return layer[key]
        raise KeyError(key)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[K]:
        return iter(self._merged())

    def items(self) -> ItemsView[K, V]:
        """Return the keys and their values, in order."""
        return self._merged().items()

    def values(self) -> ValuesView[V]:
        """Return the values, in the order of their keys."""
        return self._merged().values()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._merged()})"

    def _merged(self) -> dict[K, V]:
        merged: dict[K, V] = {}
        for layer in self._layers:
            merged |= layer
        return merged
