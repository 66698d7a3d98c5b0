# SPDX-License-Identifier: Apache-2.0
"""A signed file is a text and its signature blocks, and nothing else travels with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import limits
from breakglass.core.signed_file import (
    SignedFile,
    code,
    digest,
    merge_signed_files,
    parse_signed_file,
    render_signed_file,
    repair,
)
from breakglass.errors import Malformed
from tests.support.organisation import Organisation

ORG = Organisation("ana bo luc")
TEXT = ORG.command()
ANA, BO = ORG.approve(TEXT, "ana"), ORG.approve(TEXT, "bo")


def test_a_file_gives_its_parts_back() -> None:
    """Text and blocks come out as they went in, also with no block yet."""
    raw = TEXT + ANA + BO
    assert parse_signed_file(raw) == SignedFile(text=TEXT, armors=(ANA, BO))
    assert render_signed_file(parse_signed_file(raw)) == raw
    assert parse_signed_file(TEXT).armors == ()


@pytest.mark.parametrize(
    ("raw", "code_", "message"),
    [
        (TEXT + ANA + b"please\n", "trailing-text", "nothing but signature blocks"),
        (TEXT + ANA + b"\n" + BO, "trailing-text", "nothing but signature blocks"),
        (TEXT + ANA[:-10], "malformed", "the end of a signature block"),
        (TEXT[:-1], "malformed", "ends with a line feed"),
        (TEXT[:-1] + ANA, "malformed", "ends with a line feed"),
        (b"", "malformed", "ends with a line feed"),
        (b"x\n" + ANA * 17, "too-large", "at most 16 signatures"),
        (b"x" * limits.MAX_SIGNED_FILE_BYTES + b"\n", "too-large", "at most 40960 bytes"),
    ],
)
def test_what_is_not_a_signed_file_is_refused(raw: bytes, code_: str, message: str) -> None:
    """Anything around the blocks, and anything without bound, is refused by name."""
    with pytest.raises(Malformed, match=message) as caught:
        parse_signed_file(raw)
    assert caught.value.stable_code == code_


def test_files_with_the_same_text_merge_by_union() -> None:
    """P10: approvals that went different ways come together; each counts once."""
    one, other = parse_signed_file(TEXT + ANA), parse_signed_file(TEXT + BO + ANA)
    assert merge_signed_files(one, other).armors == (ANA, BO)
    assert merge_signed_files(one, one) == one


def test_files_with_different_texts_do_not_merge() -> None:
    """Both codes are told, for people to compare."""
    another = ORG.command()
    with pytest.raises(Malformed, match=code(another)) as caught:
        merge_signed_files(parse_signed_file(TEXT), parse_signed_file(another))
    assert caught.value.stable_code == "different-text"


def test_a_merge_is_bounded_and_refuses_what_is_no_signature() -> None:
    """A merge may not make a file that no node would take."""
    broken = SignedFile(text=TEXT, armors=(ANA.replace(b"U1NI", b"AAAA"),))
    with pytest.raises(Malformed, match="magic"):
        merge_signed_files(parse_signed_file(TEXT + ANA), broken)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"\xef\xbb\xbf\n\n" + raw + b"\n\n",
        lambda raw: raw.replace(b"\n", b"  \n"),
        lambda raw: raw.rstrip(b"\n"),
    ],
    ids=["mail", "editor", "chat", "terminal"],
)
def test_damage_of_the_road_is_repaired(damage: object) -> None:
    """P10: what mail, chat and editors do to a file is undone without doubt."""
    raw = TEXT + ANA + BO
    assert callable(damage)
    assert repair(damage(raw)) == raw
    assert repair(raw) == raw
    assert repair(b"\n\n") == b""


def test_the_code_is_eighty_bits_that_can_be_read_aloud() -> None:
    """Four groups of four letters; another text has another code."""
    assert len(code(TEXT)) == 19
    assert code(TEXT) != code(TEXT + b"\n")
    assert len(digest(TEXT)) == 64


@given(st.binary(max_size=400))
def test_foreign_bytes_are_malformed_and_nothing_else(raw: bytes) -> None:
    """The parser returns the same bytes' parts or raises Malformed."""
    try:
        file = parse_signed_file(raw)
    except Malformed:
        return
    assert render_signed_file(file) == raw
