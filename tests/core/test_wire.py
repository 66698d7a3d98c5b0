# SPDX-License-Identifier: Apache-2.0
"""The SSH wire encoding: one encoding for each value, and no surplus bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core.wire import WireReader, string
from breakglass.errors import Malformed
from tests.support.properties import property_test
from tests.support.sshsig_parts import mpint


def reader(raw: bytes) -> WireReader:
    """Return a reader of these bytes."""
    return WireReader(raw, "a test")


def test_fields_come_out_in_their_order() -> None:
    """Reading returns a number, a string, a name, an integer and bytes in order."""
    made = reader(b"\0\0\1\2" + string(b"\xff") + string(b"ssh-x") + string(b"\0\x80") + b"rest")
    assert made.number() == 0x102
    assert made.string() == b"\xff"
    assert made.name() == "ssh-x"
    assert made.integer() == 0x80
    assert made.take(4) == b"rest"
    made.finish()


@pytest.mark.parametrize("raw", [b"", b"\0\0\0", b"\0\0\0\2x", b"\xff\xff\xff\xffx"])
def test_a_string_that_runs_out_is_refused(raw: bytes) -> None:
    """A string that is longer than the bytes left is refused."""
    with pytest.raises(Malformed, match="more bytes in a test, got"):
        reader(raw).string()


@pytest.mark.parametrize("raw", [b"ssh\0", b"two\nlines", b"\x7f", "é".encode(), b"\xff"])
def test_a_name_is_printable_ascii(raw: bytes) -> None:
    """A name with a NUL, a line end or a non-ASCII letter is refused."""
    with pytest.raises(Malformed, match="printable ASCII in a test"):
        reader(string(raw)).name()


@pytest.mark.parametrize("raw", [b"\x80", b"\xff\x01"])
def test_a_negative_integer_is_refused(raw: bytes) -> None:
    """A negative integer is refused."""
    with pytest.raises(Malformed, match="a positive integer in a test"):
        reader(string(raw)).integer()


@pytest.mark.parametrize("raw", [b"\0", b"\0\x7f", b"\0\0\x80"])
def test_an_integer_has_one_spelling(raw: bytes) -> None:
    """Leading zeros are refused: they would be a second encoding of the number."""
    with pytest.raises(Malformed, match="in its shortest form in a test"):
        reader(string(raw)).integer()


def test_what_is_left_over_is_refused() -> None:
    """Surplus bytes are refused, and the message has their number."""
    made = reader(b"abc")
    made.take(1)
    with pytest.raises(Malformed, match="the end of a test, got 2 more bytes"):
        made.finish()


@property_test
@given(st.integers(0, 2**600))
def test_an_integer_is_read_as_it_was_written(value: int) -> None:
    """Every encoded number from 0 up is read back."""
    made = reader(mpint(value))
    assert made.integer() == value
    made.finish()


@property_test
@given(st.binary(max_size=40))
def test_any_bytes_are_an_integer_in_one_spelling_or_malformed(raw: bytes) -> None:
    """Any bytes are an integer's only encoding or raise Malformed."""
    made = reader(raw)
    try:
        value = made.integer()
        made.finish()
    except Malformed:
        return
    assert mpint(value) == raw
