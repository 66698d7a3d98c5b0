# SPDX-License-Identifier: Apache-2.0
"""Every refusal has a stable code, an "expected X, got Y" message and a hint."""

import pytest

from breakglass.core.reasons import (
    HINTS,
    NODE_REASONS,
    Reason,
    Refused,
    needed_and_have,
    reason_of,
    refused_as_malformed,
)
from breakglass.errors import Exit, Malformed


def test_every_reason_has_a_hint() -> None:
    """Each reason has a hint: one lower-case sentence without a period."""
    assert set(HINTS) == set(Reason)
    for hint in HINTS.values():
        assert hint[:1].islower()
        assert not hint.endswith(".")


def test_node_reasons_are_reasons() -> None:
    """The reasons that only a node can know are a proper subset of all reasons."""
    assert set(Reason) > NODE_REASONS


def test_a_refusal_has_its_reasons_hint() -> None:
    """A refusal has its reason's hint unless it is made with another."""
    plain = Refused(reason=Reason.BUSY, needed="fewer than 16", have="16")
    assert plain.hint == HINTS[Reason.BUSY]
    own = Refused(reason=Reason.BUSY, needed="fewer than 16", have="16", hint="wait a minute")
    assert own.hint == "wait a minute"


def test_a_refusal_is_an_error_for_those_who_cannot_go_on() -> None:
    """`as_error` keeps code, message and hint; the exit status is 3."""
    error = Refused(reason=Reason.EXPIRED, needed="a clock before noon", have="1 PM").as_error()
    assert error.message == "expected a clock before noon, got 1 PM"
    assert (error.stable_code, error.exit_status) == ("expired", Exit.REFUSED)
    assert error.hint == HINTS[Reason.EXPIRED]


def test_a_refusal_has_no_truth_value() -> None:
    """`bool(refused)` raises TypeError."""
    with pytest.raises(TypeError, match="truth"):
        bool(Refused(reason=Reason.BUSY, needed="fewer", have="16"))


def test_an_errors_code_is_its_reason() -> None:
    """A parser's code that is a reason is kept; any other becomes the general reason."""
    narrow = refused_as_malformed(Malformed("expected a, got b", code="unknown-key"))
    assert (narrow.reason, narrow.needed, narrow.have) == (Reason.UNKNOWN_KEY, "a", "b")
    assert refused_as_malformed(Malformed("expected a, got b")).reason is Reason.MALFORMED
    assert reason_of("no-such-code", otherwise=Reason.MALFORMED) is Reason.MALFORMED


def test_an_error_without_a_second_half_still_says_something() -> None:
    """A refusal's `needed` and `have` are never empty."""
    assert needed_and_have("expected a, got b, got c") == ("a", "b, got c")
    assert needed_and_have("expected a") == ("a", "something else")
