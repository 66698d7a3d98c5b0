# SPDX-License-Identifier: Apache-2.0
"""The values in documents have one canonical form and bounded sizes."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import bounds, names
from breakglass.errors import Malformed
from tests.support import properties
from tests.support.properties import property_test


@pytest.mark.parametrize(
    ("parse", "good", "bad"),
    [
        (names.parse_name, "web-1.eu_x", ["", "-a", "A", "a" * 64, "a/b", "\u0661", "a\n"]),
        (names.parse_namespace, "kube-system", ["", "a.b", "-a", "a-", "a_b", "a" * 64]),
        (names.parse_revision, "5d4f8c", ["", "a", "5d4f8c6b9b7", "0"]),
        (names.parse_sha256, "ab" * 32, ["", "AB" * 32, "ab" * 31, "zz" * 32]),
        (
            names.parse_image,
            f"sha256:{'ab' * 32}",
            ["", "ab" * 32, f"SHA256:{'ab' * 32}", f"sha512:{'ab' * 64}", f"r/i@sha256:{'a' * 64}"],
        ),
        (
            names.parse_id,
            "019aa1f3-0000-7000-8000-0123456789ab",
            ["", "019aa1f3-0000-4000-8000-0123456789ab", "019AA1F3-0000-7000-8000-0123456789AB"],
        ),
    ],
)
def test_one_spelling(parse: Callable[[str], str], good: str, bad: list[str]) -> None:
    """A valid value is returned unchanged; any other text raises Malformed."""
    assert parse(good) == good
    for text in bad:
        with pytest.raises(Malformed, match="expected"):
            parse(text)


def test_a_workload_is_a_namespace_and_a_name() -> None:
    """A workload has both parts, and its name is a DNS subdomain."""
    assert names.parse_workload("kube-system/node.exporter") == ("kube-system", "node.exporter")
    for text in ("telemetry", "/telemetry", "monitoring/", "a/b/c", "a/-b", f"a/{'b' * 254}"):
        with pytest.raises(Malformed, match="expected"):
            names.parse_workload(text)


@property_test
@given(st.integers(0, 10**6))
def test_a_duration_has_one_spelling(seconds: int) -> None:
    """Parsing a rendered duration returns it."""
    assert names.parse_duration(names.render_duration(seconds), max_s=10**6) == seconds


@pytest.mark.parametrize("text", ["", "30", "60s", "0h", "01s", "1d", "-1s", "1.5h", "2h "])
def test_a_duration_that_is_none(text: str) -> None:
    """A duration in a smaller unit than needed, or with a sign or a fraction, is refused."""
    with pytest.raises(Malformed, match="expected"):
        names.parse_duration(text, max_s=3600)


def test_a_duration_is_bounded() -> None:
    """A duration beyond its bound is refused; the message has the bound."""
    with pytest.raises(Malformed, match="at most 1h, got '2h'"):
        names.parse_duration("2h", max_s=3600)


@property_test
@given(properties.time)
def test_a_time_has_one_spelling(time: datetime) -> None:
    """Parsing a rendered time returns it."""
    assert names.parse_time(names.render_time(time)) == time


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T04:05:60Z",
        "0000-01-01T00:00:00Z",
        "2026-11-21T04:05:06",
        "2026-11-21T04:05:06+00:00",
        "2026-11-21t04:05:06z",
        "2026-W47-6T04:05:06Z",
        "2026-11-21T04:05:06.0Z",
    ],
)
def test_a_time_that_is_none(text: str) -> None:
    """Times that do not exist, and other formats, are refused."""
    with pytest.raises(Malformed, match="expected"):
        names.parse_time(text)


def test_only_utc_is_rendered() -> None:
    """A time in another zone or without a zone raises ValueError; fractions are cut."""
    for zone in (None, timezone(timedelta(hours=1))):
        with pytest.raises(ValueError, match="UTC"):
            names.render_time(datetime(2026, 11, 21, tzinfo=zone))
    fraction = datetime(2026, 11, 21, 4, 5, 6, 999_999, tzinfo=UTC)
    assert names.render_time(fraction) == "2026-11-21T04:05:06Z"


@property_test
@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_an_id_carries_its_time(unix_ms: int, entropy: bytes) -> None:
    """An id with any entropy is a UUIDv7 that begins with its milliseconds."""
    made = names.render_id(unix_ms, entropy)
    assert names.parse_id(made) == made
    assert int(re.sub("-", "", made)[:12], 16) == unix_ms


def test_an_id_needs_ten_bytes() -> None:
    """Less or more entropy raises ValueError."""
    with pytest.raises(ValueError, match="ten bytes"):
        names.render_id(0, bytes(9))


def test_shown_text_is_printable_and_bounded() -> None:
    """Quoted text is escaped and cut, so it cannot control or flood a terminal."""
    assert names.quoted("a\x1b[2J\u202e") == r"'a\x1b[2J\u202e'"
    assert len(names.quoted("x" * 1000)) < 100


def test_words_of_others_become_one_printable_line() -> None:
    """Text for an entry is escaped and cut, and has no quotes around it."""
    assert names.printable("a\x1b[2J\n\u202e") == r"a\x1b[2J\n\u202e"
    assert names.printable('it\'s "so"') == 'it\\\'s "so"'
    assert len(names.printable("x" * 1000)) == bounds.MAX_TEXT_CHARS
    assert names.printable("abc", max_chars=2) == "ab"
