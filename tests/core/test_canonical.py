# SPDX-License-Identifier: Apache-2.0
"""The canonical text has one encoding, a bounded size and no hidden characters (P3, P8)."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import bounds
from breakglass.core.canonical import Fields, parse_object, render, verify_canonical
from breakglass.errors import Malformed
from tests.support import properties
from tests.support.properties import property_test

LIMIT = 4096

documents = st.dictionaries(
    properties.text,
    st.recursive(
        properties.text | st.booleans() | st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(properties.text, inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def code_of(raw: bytes) -> str:
    """Return the code of the error for these bytes."""
    with pytest.raises(Malformed) as refusal:
        parse_object(raw, max_bytes=LIMIT)
    return refusal.value.stable_code


@property_test
@given(documents)
def test_what_is_rendered_is_read_back(document: dict[str, object]) -> None:
    """Parsing a rendered document returns it, unless it is nested too deep."""
    raw = render(document)  # type: ignore[arg-type]
    try:
        found = parse_object(raw, max_bytes=len(raw))
    except Malformed as error:
        assert "levels" in error.message  # noqa: PT017 - either is right
        return
    assert found == document
    verify_canonical(raw, found)


@property_test
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0a1 \n', max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_malformed(raw: bytes) -> None:
    """Parsing returns the same value as `json`, or raises Malformed."""
    try:
        found = parse_object(raw, max_bytes=LIMIT)
    except Malformed:
        return
    assert found == json.loads(raw)


@property_test
@given(st.text(max_size=20), st.text(max_size=20))
def test_nothing_unprintable_hides_behind_an_escape(key: str, value: str) -> None:
    """Keys and texts contain only printable ASCII, also after unescaping."""
    raw = json.dumps({key: [value]}).encode()
    if all(" " <= one <= "~" for one in key + value):
        assert parse_object(raw, max_bytes=LIMIT) == {key: [value]}
    else:
        assert code_of(raw) == "malformed"


@property_test
@given(st.integers(1, 9), st.text(alphabet='[]{}"\\ab', max_size=30))
def test_p8_depth_is_counted_outside_texts(depth: int, text: str) -> None:
    """Brackets inside a string do not count as nesting."""
    raw = b'{"a":' * depth + json.dumps(text).encode() + b"}" * depth
    if depth <= bounds.MAX_JSON_DEPTH:
        assert parse_object(raw, max_bytes=LIMIT)
    else:
        assert code_of(raw) == "malformed"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"1",
        b"null",
        b"[]",
        b'"text"',
        b"{} {}",
        b'{"a": 1.0}',
        b'{"a": 1e3}',
        b'{"a": NaN}',
        b'{"a": 9007199254740992}',
        b'{"a": -99999999999999999999999}',
        b'{"a": "\\n"}',
        b'{"a": ["\\u202e"]}',
        b'{"\\u0000": 1}',
        b'{"a": "\x7f"}',
        b'{"a": "\n"}',
        b"\t{}",
        b"\xef\xbb\xbf{}",
        b'{"a": "',
        b'{"a": "\\',
    ],
)
def test_what_is_no_document(raw: bytes) -> None:
    """Bytes that other JSON readers accept, or that are cut off, are refused."""
    assert code_of(raw) == "malformed"


def test_a_key_stands_once() -> None:
    """A duplicate key is refused, also if one of the two is escaped."""
    assert code_of(b'{"a": 1, "a": 1}') == "duplicate-key"
    assert code_of(b'{"a": 1, "\\u0061": 1}') == "duplicate-key"


def test_p8_size_and_depth_are_bounded() -> None:
    """Too many bytes and too deep nesting are refused; brackets inside strings do not count."""
    assert code_of(b" " * (LIMIT + 1)) == "malformed"
    deepest = b'{"a":' * bounds.MAX_JSON_DEPTH + b"1" + b"}" * bounds.MAX_JSON_DEPTH
    assert parse_object(deepest, max_bytes=LIMIT)
    assert code_of(b'{"a":' + deepest + b"}") == "malformed"
    assert parse_object(b'{"a": "[[[[[[[[[\\"[[[["}', max_bytes=LIMIT) == {"a": '[[[[[[[[["[[[['}


def test_p8_no_bytes_are_slow() -> None:
    """Unclosed strings full of escapes take no longer than other bytes of the same size."""
    for raw in (b'"' + b'\\"' * 30_000, b'"\\""' * 15_000, b"[" * 60_000, b"]" * 60_000):
        begun = time.process_time()
        with pytest.raises(Malformed):
            parse_object(raw, max_bytes=len(raw))
        assert time.process_time() - begun < 1.0


def test_another_spelling_is_told_by_its_line() -> None:
    """The message names the first line that differs, or the end."""
    document = {"a": 1, "b": 2}
    for raw, place in (
        (b'{\n  "a": 1,\n  "b":  2\n}\n', "line 3"),
        (render(document) + b"\n", "its end"),
        (render(document)[:-1], "its end"),
    ):
        with pytest.raises(Malformed, match=place) as refusal:
            verify_canonical(raw, document)
        assert refusal.value.stable_code == "not-canonical"


def test_fields_tell_where_something_is_wrong() -> None:
    """A message names the whole path of a value and the type that it has."""
    fields = Fields({"a": {"b": None, "c": ["x", 1]}})
    inner = fields.fields("a")
    with pytest.raises(Malformed, match=r"expected text at a\.b, got null"):
        inner.text("b")
    with pytest.raises(Malformed, match=r"expected text at a\.c\[1\]"):
        inner.texts("c", str, max_items=2)
    with pytest.raises(Malformed, match=r"expected at most 1 items at a\.c, got 2"):
        inner.objects("c", max_items=1)
    with pytest.raises(Malformed, match=r"expected an object at a\.c\[0\], got text"):
        inner.objects("c", max_items=2)
    with pytest.raises(Malformed, match=r"expected text at a\.c\[1\], got an integer"):
        inner.lines("c", max_items=2)
    with pytest.raises(Malformed, match="expected an object at the top, got a list"):
        Fields([])


def test_a_value_is_of_its_kind_and_within_its_bounds() -> None:
    """A wrong type, an absent key, and a number or text beyond its bounds each have a message."""
    fields = Fields({"a": {"yes": True, "one": 1, "word": "abc", "list": ["x", "y"]}}).fields("a")
    for wrong, message in (
        (lambda: fields.text("none"), r"expected the key a\.none, got none"),
        (lambda: fields.text("word", max_chars=2), r"at most 2 characters at a\.word, got 3"),
        (lambda: fields.integer("yes", low=0, high=1), r"an integer at a\.yes, got true or false"),
        (lambda: fields.integer("word", low=0, high=1), r"an integer at a\.word, got text"),
        (lambda: fields.integer("one", low=2, high=3), r"2 to 3 at a\.one, got 1"),
        (lambda: fields.integer("one", low=-1, high=0), r"-1 to 0 at a\.one, got 1"),
        (lambda: fields.flag("one"), r"true or false at a\.one, got an integer"),
        (lambda: fields.lines("word", max_items=1), r"a list at a\.word, got text"),
        (lambda: fields.fields("list"), r"an object at a\.list, got a list"),
    ):
        with pytest.raises(Malformed, match=message):
            wrong()
    assert fields.text("word", max_chars=3) == "abc"


def test_an_absent_key_has_its_own_code() -> None:
    """An absent key has another code than a wrong value."""
    with pytest.raises(Malformed) as refusal:
        Fields({}).flag("a")
    assert refusal.value.stable_code == "missing-key"


def test_a_value_of_its_own_form_is_told_with_its_place() -> None:
    """`parsed` adds the path to the error of a value's parser and keeps its code."""

    def refuse(text: str) -> str:
        raise Malformed(f"expected better, got {text}", code="a-code")

    fields = Fields({"one": "x", "many": ["x", "y"]})
    with pytest.raises(Malformed, match="expected better, got x at one") as refusal:
        fields.parsed("one", refuse)
    assert refusal.value.stable_code == "a-code"
    with pytest.raises(Malformed, match=r"got x at many\[0\]"):
        fields.texts("many", refuse, max_items=2)
    assert fields.texts("many", str.upper, max_items=2) == ("X", "Y")
    assert [one.text("a") for one in Fields({"l": [{"a": "x"}]}).objects("l", max_items=1)] == ["x"]


def test_each_item_stands_once() -> None:
    """A duplicate in a list of names is refused, also if its name is very long."""
    with pytest.raises(Malformed, match="expected each item once at a, got 'x' twice"):
        Fields({"a": ["x", "y", "x"]}).texts("a", str, max_items=3)


def test_every_key_is_read_or_refused() -> None:
    """`finish` refuses a key that was not read, and accepts the keys that were."""
    fields = Fields({"a": True, "b": 1})
    assert fields.has("b")
    assert not fields.has("c")
    assert fields.flag("a")
    with pytest.raises(Malformed) as refusal:
        fields.finish()
    assert refusal.value.stable_code == "unknown-key"
    assert fields.integer("b", low=1, high=1) == 1
    fields.finish()


def test_an_escape_of_a_printable_character_does_no_harm() -> None:
    """Which spelling a document has is for `verify_canonical`."""
    found = parse_object(b'{"\\u0041": ["\\u0042", 1, true]}', max_bytes=LIMIT)
    assert found == {"A": ["B", 1, True]}


def test_lines_are_kept_as_they_stand() -> None:
    """A list of lines may contain a line twice."""
    assert Fields({"a": ["x", "x"]}).lines("a", max_items=2) == ("x", "x")
