# SPDX-License-Identifier: Apache-2.0
"""Errors carry what scripts and people need: message, stable code, hint, exit status."""

from breakglass.errors import BreakglassError, Defect, Exit, Malformed, UsageError


def test_an_error_has_its_classs_code_and_hint_unless_told_otherwise() -> None:
    """A narrower code and a better hint may be given; the exit status is the family's."""
    plain = UsageError("expected a file, got none")
    assert (plain.stable_code, plain.hint) == ("usage", "see --help")
    assert plain.exit_status is Exit.INPUT
    narrow = Malformed("expected LF, got CR", code="not-canonical", hint="convert it")
    assert (narrow.stable_code, narrow.hint, narrow.message) == (
        "not-canonical",
        "convert it",
        "expected LF, got CR",
    )
    assert str(narrow) == "expected LF, got CR"


def test_a_defect_is_its_own_exit() -> None:
    """Scripts can tell our faults from theirs."""
    assert Defect("expected nothing, got it").exit_status is Exit.DEFECT
    assert BreakglassError.exit_status is Exit.DEFECT
    assert [int(one) for one in Exit] == [0, 2, 3, 4, 5, 6, 70, 130]
