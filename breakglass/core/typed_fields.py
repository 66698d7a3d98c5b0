# SPDX-License-Identifier: Apache-2.0
"""Read and write dataclasses as JSON objects, by the types of their fields.

A field is a text, an integer of at least -1, a flag, a tuple of texts or a tuple of such
dataclasses.  Keys must be in the order of the class, in reading too.  So an object that
`read_value` accepts is exactly the one that `to_object` writes for the value.
"""

from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import TypeAlias, TypeVar, cast, get_args, get_type_hints

from breakglass.core import bounds
from breakglass.core.canonical import Fields, Json

MAX_ITEMS = 2_000

T = TypeVar("T")
_ReadField: TypeAlias = Callable[[Fields, str], object]


def names_of(kind: type) -> tuple[str, ...]:
    """Return the names of a class's fields, in order."""
    return _names(cast("Hashable", kind))


def to_object(value: object) -> dict[str, Json]:
    """Return a dataclass as a JSON object; tuples become lists."""
    found: dict[str, Json] = {}
    for name in names_of(type(value)):
        item = getattr(value, name)
        if isinstance(item, tuple):
            found[name] = [one if isinstance(one, str) else to_object(one) for one in item]
        else:
            found[name] = item
    return found


def read_value(kind: type[T], fields: Fields) -> T:
    """Return a value of the dataclass `kind` from its keys; the caller then calls `finish`.

    Raises:
        Malformed: a key is absent, or its value has another type or is beyond its bound.
    """
    found = {name: read(fields, name) for name, read in _readers(cast("Hashable", kind))}
    return kind(**found)


# Cached: an agent reads its whole log at each start.
@cache
def _readers(kind: Hashable) -> tuple[tuple[str, _ReadField], ...]:
    """Return the fields of a class in order, each with the function that reads its type."""
    return tuple((name, _reader(hint)) for name, hint in get_type_hints(kind).items())


@cache
def _names(kind: Hashable) -> tuple[str, ...]:
    return tuple(name for name, _ in _readers(kind))


def _reader(hint: object) -> _ReadField:
    if hint is str:
        return _text
    if hint is int:
        return _integer
    if hint is bool:
        return Fields.flag
    inner = get_args(hint)[0]
    return _lines if inner is str else partial(_values, inner)


def _text(fields: Fields, name: str) -> str:
    return fields.text(name, max_chars=bounds.MAX_ENTRY_BYTES)


def _integer(fields: Fields, name: str) -> int:
    return fields.integer(name, low=-1, high=bounds.MAX_JSON_INTEGER)


def _lines(fields: Fields, name: str) -> tuple[str, ...]:
    return fields.lines(name, max_items=MAX_ITEMS)


def _values(kind: type[T], fields: Fields, name: str) -> tuple[T, ...]:
    return tuple(_closed(kind, one) for one in fields.objects(name, max_items=MAX_ITEMS))


def _closed(kind: type[T], fields: Fields) -> T:
    value = read_value(kind, fields)
    fields.finish_in_order(names_of(kind))
    return value
