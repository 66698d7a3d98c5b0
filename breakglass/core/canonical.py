# SPDX-License-Identifier: Apache-2.0
"""The canonical encoding of documents: the bytes that people read are the bytes that they sign.

A document is one JSON object (RFC 8259) with exactly one valid encoding: two-space indent, LF line
ends, printable ASCII (also after unescaping), integers only, keys in the order of the schema, no
duplicate and no unknown keys.  `parse_object` checks what needs no schema.  The schema's module
reads the values through `Fields` and then calls `verify_canonical`, which requires that rendering
the value gives exactly the same bytes.  That one comparison refuses every other encoding.

This module knows no schema and no signatures: callers verify signatures first, then parse.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeAlias, TypeVar

from breakglass.core import bounds
from breakglass.core.names import quoted
from breakglass.errors import Malformed

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"
T = TypeVar("T")

_BYTES = re.compile(rb"[\x20-\x7e\n]*")
_TEXT = re.compile(r"[\x20-\x7e]*", re.ASCII)
# Everything but the brackets outside strings; a string may be unclosed.  What is left is the
# nesting.  The match consumes every byte once, so hostile input takes linear time.
_NOT_NESTING = re.compile(
    rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?+[^"\[\]{}]*+)*+', re.DOTALL
)
# JSON whose only escapes are those of printable characters: the backslash, a quote, a slash.
_PLAIN_ESCAPES = re.compile(rb'[^\\]*+(?:\\["\\/][^\\]*+)*+')
_MAX_INTEGER_CHARS = len(str(-bounds.MAX_JSON_INTEGER))


def render(document: Mapping[str, Json]) -> bytes:
    """Return the canonical bytes of a document whose keys are in the schema's order."""
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def parse_object(raw: bytes, *, max_bytes: int) -> dict[str, Json]:
    """Return the JSON object in `raw`.

    Raises:
        Malformed: it is longer than `max_bytes`, not printable ASCII, not one JSON object, nested
            deeper than `bounds.MAX_JSON_DEPTH`, or holds a duplicate key or a number that is not
            an exact integer.
    """
    if len(raw) > max_bytes:
        raise Malformed(f"expected at most {max_bytes} bytes, got {len(raw)}")
    if not _BYTES.fullmatch(raw):
        raise Malformed("expected printable ASCII and line feeds, got another byte")
    _verify_depth(raw)
    try:
        value = _DECODER.decode(raw.decode("ascii"))
    except json.JSONDecodeError as error:
        raise Malformed(
            f"expected JSON, got an error at line {error.lineno}: {error.msg}"
        ) from error
    if not isinstance(value, dict):
        raise Malformed("expected one JSON object, got another kind of value")
    if not _PLAIN_ESCAPES.fullmatch(raw):  # without other escapes all strings are printable ASCII
        _verify_strings(value)
    return value


def verify_canonical(raw: bytes, document: Mapping[str, Json]) -> None:
    """Raise `Malformed` unless `raw` is exactly the rendering of `document`."""
    rendered = render(document)
    if raw == rendered:
        return
    pairs = zip(raw.split(b"\n"), rendered.split(b"\n"), strict=False)
    line = next((number for number, (got, want) in enumerate(pairs, 1) if got != want), 0)
    where = f"line {line}" if line else "its end"
    raise Malformed(
        f"expected the canonical encoding, got another at {where}", code="not-canonical"
    )


class Fields:
    """A reader of one JSON object that refuses keys that nothing read.

    Args:
        value: the object, as `parse_object` returned it or as part of that.
        path: its place in the document, for messages; "" for the document itself.

    Each reading method raises `Malformed` for an absent key or a value of another type; `finish`
    raises it for a key that was not read.
    """

    def __init__(self, value: Json, path: str = "") -> None:
        if not isinstance(value, dict):
            raise Malformed(f"expected an object at {path or 'the top'}, got {_kind(value)}")
        self._value = value
        self._path = path
        self._read: set[str] = set()

    def _take(self, key: str) -> Json:
        self._read.add(key)
        try:
            return self._value[key]
        except KeyError:
            raise Malformed(
                f"expected the key {self.at(key)}, got none", code="missing-key"
            ) from None

    def at(self, key: str) -> str:
        """Return the path of `key`, for messages."""
        return f"{self._path}.{key}" if self._path else key

    def text(self, key: str, *, max_chars: int = bounds.MAX_TEXT_CHARS) -> str:
        """Return the text at `key`, at most `max_chars` long."""
        value = self._take(key)
        if not isinstance(value, str):
            raise Malformed(f"expected text at {self.at(key)}, got {_kind(value)}")
        if len(value) > max_chars:
            raise Malformed(
                f"expected at most {max_chars} characters at {self.at(key)}, got {len(value)}"
            )
        return value

    def parsed(
        self, key: str, parse: Callable[[str], T], *, max_chars: int = bounds.MAX_TEXT_CHARS
    ) -> T:
        """Return the parsed text at `key`; an error of `parse` gets the key's path added."""
        text = self.text(key, max_chars=max_chars)
        try:
            return parse(text)
        except Malformed as error:
            raise Malformed(f"{error.message} at {self.at(key)}", code=error.stable_code) from error

    def integer(self, key: str, *, low: int, high: int) -> int:
        """Return the integer at `key`, between `low` and `high`, both included."""
        value = self._take(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Malformed(f"expected an integer at {self.at(key)}, got {_kind(value)}")
        if not low <= value <= high:
            raise Malformed(f"expected {low} to {high} at {self.at(key)}, got {value}")
        return value

    def flag(self, key: str) -> bool:
        """Return the true or false at `key`."""
        value = self._take(key)
        if not isinstance(value, bool):
            raise Malformed(f"expected true or false at {self.at(key)}, got {_kind(value)}")
        return value

    def has(self, key: str) -> bool:
        """Whether the key is present.  For optional settings; documents have every key."""
        return key in self._value

    def fields(self, key: str) -> "Fields":
        """Return a reader of the object at `key`."""
        return Fields(self._take(key), self.at(key))

    def _items(self, key: str, max_items: int) -> list[Json]:
        value = self._take(key)
        if not isinstance(value, list):
            raise Malformed(f"expected a list at {self.at(key)}, got {_kind(value)}")
        if len(value) > max_items:
            raise Malformed(
                f"expected at most {max_items} items at {self.at(key)}, got {len(value)}"
            )
        return value

    def objects(self, key: str, *, max_items: int) -> tuple["Fields", ...]:
        """Return a reader for each object of the list at `key`."""
        items = self._items(key, max_items)
        return tuple(Fields(item, f"{self.at(key)}[{place}]") for place, item in enumerate(items))

    def texts(self, key: str, parse: Callable[[str], T], *, max_items: int) -> tuple[T, ...]:
        """Return the parsed texts of the list at `key`; raise `Malformed` for a duplicate."""
        items = self._items(key, max_items)
        found: list[T] = []
        for place, item in enumerate(items):
            one = Fields({"": item}, f"{self.at(key)}[{place}]")
            found.append(one.parsed("", parse))
            if item in items[:place]:
                raise Malformed(
                    f"expected each item once at {self.at(key)}, got {quoted(str(item))} twice"
                )
        return tuple(found)

    def lines(self, key: str, *, max_items: int) -> tuple[str, ...]:
        """Return the list of texts at `key`, unchanged; duplicates are allowed."""
        items = self._items(key, max_items)
        lines = tuple(item for item in items if isinstance(item, str))
        if len(lines) < len(items):
            place = next(n for n, item in enumerate(items) if not isinstance(item, str))
            raise Malformed(f"expected text at {self.at(key)}[{place}], got {_kind(items[place])}")
        return lines

    def finish(self) -> None:
        """Raise `Malformed` if a key was not read."""
        unread = self._value.keys() - self._read
        if unread:
            first = next(key for key in self._value if key in unread)
            raise Malformed(
                f"expected no key {quoted(self.at(first))}, got one",
                code="unknown-key",
                hint="a newer breakglass may have written this; unknown keys are never ignored",
            )

    def finish_in_order(self, keys: tuple[str, ...]) -> None:
        """Raise `Malformed` unless the keys are exactly these, in this order."""
        if tuple(self._value) != keys:
            self.finish()
            where = f" at {self._path}" if self._path else ""
            raise Malformed(
                f"expected the keys in the schema's order{where}, got another", code="not-canonical"
            )


def _verify_depth(raw: bytes) -> None:
    if raw.count(b"[") + raw.count(b"{") <= bounds.MAX_JSON_DEPTH:
        return  # so few brackets cannot nest deeper, in or outside strings
    depth = 0
    for bracket in _NOT_NESTING.sub(b"", raw):
        depth += 1 if bracket in b"[{" else -1
        if depth > bounds.MAX_JSON_DEPTH:
            raise Malformed(f"expected at most {bounds.MAX_JSON_DEPTH} levels, got more")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        count = Counter(key for key, _ in pairs)
        twice = next(key for key in found if count[key] > 1)
        raise Malformed(f"expected each key once, got {quoted(twice)} twice", code="duplicate-key")
    return found


def _integer(text: str) -> int:
    if len(text) <= _MAX_INTEGER_CHARS:
        number = int(text)
        if abs(number) <= bounds.MAX_JSON_INTEGER:
            return number
    raise Malformed(f"expected an integer below 2^53, got {quoted(text)}")


def _no_number(text: str) -> NoReturn:
    raise Malformed(f"expected an integer, got {quoted(text)}")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_no_number,
    parse_constant=_no_number,
)


def _verify_strings(value: Json) -> None:
    """Raise `Malformed` for a string with an escaped control or non-ASCII character."""
    if isinstance(value, str):
        if not _TEXT.fullmatch(value):
            raise Malformed(f"expected printable ASCII text, got {quoted(value)}")
    elif isinstance(value, list):
        for item in value:
            _verify_strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _verify_strings(key)
            _verify_strings(item)


def _kind(value: Json) -> str:
    kinds = {
        str: "text",
        bool: "true or false",
        int: "an integer",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), "null")
