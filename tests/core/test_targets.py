# SPDX-License-Identifier: Apache-2.0
"""Patterns and targets select exactly the named nodes, and never all by accident (P8)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import bounds
from breakglass.core.targets import Targets, matches, parse_pattern
from breakglass.errors import Malformed
from tests.support import properties
from tests.support.properties import property_test


def targets(
    clusters: str = "prod-a", nodes: str = "", pools: str = "", excepted: str = ""
) -> Targets:
    """Return targets, with each list given as one text of words."""
    return Targets(
        clusters=tuple(clusters.split()),
        nodes=tuple(nodes.split()),
        pools=tuple(pools.split()),
        excepted=tuple(excepted.split()),
    )


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*", "anything-1"),
        ("web-1", "web-1"),
        ("web-*", "web-"),
        ("*-gpu", "node-17-gpu"),
        ("a*b*c", "aXbXbXc".lower()),
        ("a*bc", "abcbc"),
        ("db-?", "db-7"),
        ("n[01-20]", "n01"),
        ("n[01-20]", "n20"),
        ("*[1-3].eu", "rack7-2.eu"),
        ("*?", "x"),
    ],
)
def test_a_pattern_stands_for_a_name(pattern: str, name: str) -> None:
    """Stars, question marks and ranges match the names that they describe."""
    assert matches(parse_pattern(pattern), name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("web-1", "web-10"),
        ("web-1", "xweb-1"),
        ("web-*", "web"),
        ("*-gpu", "node-gpu-1"),
        ("a*b*c", "acb"),
        ("ab*ba", "aba"),
        ("a*b*b", "ab"),
        ("db-?", "db-"),
        ("db-?", "db-17"),
        ("n[01-20]", "n1"),
        ("n[01-20]", "n21"),
        ("n[01-20]", "n00"),
        ("n[01-20]", "n1a"),
        ("n[01-20]", "n0\u0662"),
        ("*?", ""),
        ("a", ""),
    ],
)
def test_a_pattern_stands_for_nothing_else(pattern: str, name: str) -> None:
    """A similar name does not match."""
    assert not matches(parse_pattern(pattern), name)


@pytest.mark.parametrize(
    "pattern",
    ["", "**", "A", "a b", "web-[1-20]", "web-[20-01]", "web-[1]", "[a-z]", "a{1,2}", "a/b", "a\n"],
)
def test_another_spelling_is_malformed(pattern: str) -> None:
    """An invalid pattern is refused, not matched literally."""
    with pytest.raises(Malformed, match="expected"):
        parse_pattern(pattern)


def test_a_pattern_is_bounded() -> None:
    """The length and the number of stars are bounded, which bounds the time of matching."""
    with pytest.raises(Malformed, match="stars"):
        parse_pattern("a*" * (bounds.MAX_PATTERN_STARS + 1))
    with pytest.raises(Malformed, match="characters"):
        parse_pattern("a" * (bounds.MAX_PATTERN_CHARS + 1))


@property_test
@given(st.text(alphabet="ab*?[]019-.", max_size=24))
def test_any_text_is_a_pattern_or_malformed(text: str) -> None:
    """Parsing any text returns it unchanged or raises Malformed."""
    try:
        pattern = parse_pattern(text)
    except Malformed:
        return
    assert pattern == text


@property_test
@given(
    st.lists(st.sampled_from(["a", "b", "?", "*", "[1-5]"]), min_size=1, max_size=9),
    st.text(alphabet="ab137", max_size=9),
)
def test_patterns_mean_what_regular_expressions_say(pieces: list[str], name: str) -> None:
    """Matching agrees with an equivalent regular expression on small patterns."""
    pattern = re.sub(r"\*+", "*", "".join(pieces))
    if pattern.count("*") > bounds.MAX_PATTERN_STARS:
        return
    expression = pattern.replace("*", ".*").replace("?", ".")
    assert matches(parse_pattern(pattern), name) == bool(re.fullmatch(expression, name))


@property_test
@given(properties.pattern, properties.name)
def test_matching_answers_for_every_name(pattern: str, name: str) -> None:
    """Matching never raises, and a literal name matches only itself."""
    assert matches(parse_pattern(pattern), name) in {True, False}
    assert matches(parse_pattern(name), name)


def test_a_node_is_meant_by_name_or_by_pool() -> None:
    """A node is a target if its cluster is named, and its name or its pool."""
    meant = targets("prod-a prod-b", nodes="web-*", pools="gpu")
    assert meant.covers("prod-a", "web-1", "")
    assert meant.covers("prod-b", "train-1", "gpu")
    assert not meant.covers("prod-c", "web-1", "gpu")
    assert not meant.covers("prod-a", "db-1", "cpu")


def test_an_exception_wins() -> None:
    """An excepted node is no target, whatever else names it."""
    meant = targets(nodes="*", pools="gpu", excepted="web-[01-03]")
    assert meant.covers("prod-a", "web-04", "gpu")
    assert not meant.covers("prod-a", "web-02", "gpu")


@pytest.mark.parametrize(
    "empty",
    [{"clusters": "", "nodes": "*"}, {"nodes": "", "pools": ""}, {"nodes": "*", "excepted": "*"}],
)
def test_p8_an_empty_selector_never_means_all(empty: dict[str, str]) -> None:
    """Targets that select nothing raise Malformed and never mean all."""
    with pytest.raises(Malformed) as refusal:
        targets(**empty)
    assert refusal.value.stable_code == "empty-target"


def test_p8_a_node_without_a_pool_is_in_none() -> None:
    """A node without a pool matches no pool of a command."""
    assert not targets(pools="gpu").covers("prod-a", "web-1", "")
