# SPDX-License-Identifier: Apache-2.0
"""An immutable map is a dict that nobody can change: old maps stay, and go on separately."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core.immutable_map import ImmutableMap
from tests.support.properties import property_test

items = st.lists(st.tuples(st.integers(0, 20), st.integers()), max_size=80)


def made_of(pairs: list[tuple[int, int]]) -> ImmutableMap[int, int]:
    """Return the map to which these items were added one by one."""
    made: ImmutableMap[int, int] = ImmutableMap()
    for key, value in pairs:
        made = made.with_item(key, value)
    return made


def verify_same(found: ImmutableMap[int, int], plain: dict[int, int]) -> None:
    """Prove that a map answers every question as a dict does, also in order."""
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
    """Each addition gives a new map; all the old ones still answer as dicts of their time."""
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
    """What is added on one side is never seen on the other, nor where they parted."""
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
    """So a look-up takes log n steps, and n additions copy no more than n log n items."""
    layers = made_of([(key, 0) for key in keys])._layers
    assert all(len(one) > 2 * len(other) for one, other in itertools.pairwise(layers))


def test_an_absent_key_is_an_error() -> None:
    """As in a dict; and there is no way to change or remove an item."""
    one = made_of([(1, 10)])
    assert one[1] == 10
    with pytest.raises(KeyError):
        one[2]
    assert not hasattr(one, "__setitem__")
    assert not hasattr(one, "pop")
