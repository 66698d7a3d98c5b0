# SPDX-License-Identifier: Apache-2.0
"""An immutable map behaves as a dict, and old versions stay valid and independent."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core.immutable_map import ImmutableMap
from tests.support.properties import property_test

items = st.lists(st.tuples(st.integers(0, 20), st.integers()), max_size=80)


def made_of(pairs: list[tuple[int, int]]) -> ImmutableMap[int, int]:
    """Return a map with these items, added one by one."""
    made: ImmutableMap[int, int] = ImmutableMap()
    for key, value in pairs:
        made = made.with_item(key, value)
    return made


def verify_same(found: ImmutableMap[int, int], plain: dict[int, int]) -> None:
    """Assert that a map and a dict have the same items in the same order."""
    assert len(found) == len(plain)
    assert list(found) == list(plain)
    assert list(found.items()) == list(plain.items())
    assert list(found.values()) == list(plain.values())
    assert found == plain
    assert repr(found) == f"ImmutableMap({plain})"
    for key in range(-1, 22):
        assert (key in found) == (key in plain)
        assert found.get(key) == plain.get(key)


@property_test
@given(items)
def test_every_version_stays_what_it_was(pairs: list[tuple[int, int]]) -> None:
    """Each addition returns a new map and leaves all older maps unchanged."""
    versions: list[tuple[ImmutableMap[int, int], dict[int, int]]] = [(ImmutableMap(), {})]
    for key, value in pairs:
        newest, plain = versions[-1]
        versions.append((newest.with_item(key, value), {**plain, key: value}))
    for found, plain in versions:
        verify_same(found, plain)


@property_test
@given(items, items, items)
def test_two_can_go_on_from_one(
    common: list[tuple[int, int]], left: list[tuple[int, int]], right: list[tuple[int, int]]
) -> None:
    """Two maps that extend the same map do not see each other's items."""
    parted = made_of(common)
    sides = [parted, parted]
    for side, pairs in enumerate((left, right)):
        for key, value in pairs:
            sides[side] = sides[side].with_item(key, value)
    verify_same(parted, dict(common))
    verify_same(sides[0], dict(common + left))
    verify_same(sides[1], dict(common + right))


@property_test
@given(st.lists(st.integers(0, 500), max_size=400))
def test_each_layer_is_more_than_twice_as_long_as_the_next(keys: list[int]) -> None:
    """A lookup takes O(log n) steps, and n additions copy O(n log n) items."""
    layers = made_of([(key, 0) for key in keys])._layers
    assert all(len(one) > 2 * len(other) for one, other in itertools.pairwise(layers))


def test_an_absent_key_is_an_error() -> None:
    """An absent key raises KeyError, and items cannot be set or deleted."""
    one = made_of([(1, 10)])
    assert one[1] == 10
    with pytest.raises(KeyError):
        one[2]
    assert not hasattr(one, "__setitem__")
    assert not hasattr(one, "pop")
