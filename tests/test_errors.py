# SPDX-License-Identifier: Apache-2.0
"""Every error has a message, a stable code, a hint and an exit status."""

from breakglass.errors import BreakglassError, Defect, Exit, Malformed, UsageError


def test_an_error_has_its_classs_code_and_hint_by_default() -> None:
    """A caller may give a narrower code and another hint; the class sets the exit status."""
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


def test_a_defect_has_its_own_exit_status() -> None:
    """Scripts can tell a defect of breakglass from wrong input."""
    assert Defect("expected nothing, got it").exit_status is Exit.DEFECT
    assert BreakglassError.exit_status is Exit.DEFECT
    assert [int(one) for one in Exit] == [0, 2, 3, 4, 5, 6, 70, 130]
