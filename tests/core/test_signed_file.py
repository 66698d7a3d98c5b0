# SPDX-License-Identifier: Apache-2.0
"""Signed files: strict parsing, merging, and repair of changes by mail and chat."""

import base64
import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakglass.core import bounds
from breakglass.core.canonical import render
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
from tests.support.properties import property_test
from tests.support.properties import text as free_text

ORGANISATION = Organisation("ana bo luc")
TEXT = ORGANISATION.command()
ANA, BO, LUC = (ORGANISATION.approve(TEXT, person) for person in ("ana", "bo", "luc"))
SIGNED = TEXT + ANA + BO


def malformed(raw: bytes) -> Malformed:
    """Return the error for bytes that are not a signed file."""
    with pytest.raises(Malformed) as caught:
        parse_signed_file(raw)
    return caught.value


def rewrapped(armor: bytes) -> bytes:
    """Return the same signature in lines of another width."""
    begin, *body, end = armor.splitlines()
    return b"\n".join((begin, b"".join(body), end, b""))


# Reading.


def test_a_file_is_its_text_and_its_blocks() -> None:
    """The text ends at the first block, and the blocks keep their order."""
    file = parse_signed_file(SIGNED)

    assert (file.text, file.armors) == (TEXT, (ANA, BO))
    assert render_signed_file(file) == SIGNED


def test_a_text_alone_is_a_file_that_nobody_signed() -> None:
    """A draft parses as a signed file without signatures; `decide` refuses it."""
    assert parse_signed_file(TEXT) == SignedFile(text=TEXT, armors=())


@pytest.mark.parametrize("between", [b"\n", b"hello\n", b"hello", b"{}\n", b" "])
def test_nothing_stands_between_or_after_the_blocks(between: bytes) -> None:
    """Unsigned text between or after the blocks is refused."""
    for raw in (TEXT + ANA + between, TEXT + ANA + between + BO):
        assert malformed(raw).stable_code == "trailing-text"


def test_a_second_text_after_the_blocks_is_refused() -> None:
    """A second command in the file is refused: its signatures would be ambiguous."""
    assert malformed(SIGNED + TEXT).stable_code == "trailing-text"


def test_a_file_without_a_text_is_refused() -> None:
    """Signatures without a text, and an empty file, are refused."""
    for raw in (b"", ANA, ANA + BO):
        assert "line feed" in malformed(raw).message


def test_a_text_ends_with_a_line_feed() -> None:
    """A text must end with a line feed, so that the first block begins a line."""
    for raw in (TEXT[:-1], TEXT[:-1] + ANA, b"x"):
        assert "line feed" in malformed(raw).message


def test_a_block_has_an_end() -> None:
    """A file cut off inside a block is refused, not read as a shorter file."""
    for raw in (SIGNED[:-1], SIGNED[:-30], SIGNED[:-100]):
        assert "the end of a signature block" in malformed(raw).message


@pytest.mark.parametrize("byte", [b"\r", b"\t", b"\0", b"\x1b", b"\x7f", b"\x80", b"\xc3\xa9"])
def test_a_file_is_printable_ascii(byte: bytes) -> None:
    """A file has no control and no non-ASCII characters, so a terminal shows all of it."""
    for raw in (TEXT[:9] + byte + TEXT[9:] + ANA, TEXT + ANA[:40] + byte + ANA[40:], SIGNED + byte):
        assert "printable ASCII" in malformed(raw).message


def test_a_file_has_a_size() -> None:
    """A file with too many bytes or blocks is refused as too large."""
    longest = b"x" * (bounds.MAX_SIGNED_FILE_BYTES - 1) + b"\n"

    assert parse_signed_file(longest).text == longest
    assert malformed(b"x" + longest).stable_code == "too-large"
    assert len(parse_signed_file(TEXT + ANA * bounds.MAX_SIGNATURES).armors) == 16
    assert malformed(TEXT + ANA * (bounds.MAX_SIGNATURES + 1)).stable_code == "too-large"


def test_a_broken_block_is_still_a_block() -> None:
    """A malformed block is still parsed as a block: it is a signature that does not count."""
    rubbish = b"-----BEGIN SSH SIGNATURE-----\nrubbish\n-----END SSH SIGNATURE-----\n"

    assert parse_signed_file(TEXT + rubbish + ANA).armors == (rubbish, ANA)


def test_a_text_may_speak_of_signatures() -> None:
    """The words of a block's first line inside the text do not begin a block."""
    told = ORGANISATION.command(reason="-----BEGIN SSH SIGNATURE----- is what they sent")

    assert parse_signed_file(told + ANA).text == told


# Merging.


def test_files_with_the_same_text_become_one() -> None:
    """Merging two copies of a file keeps the approvals of both."""
    merged = merge_signed_files(parse_signed_file(TEXT + ANA), parse_signed_file(TEXT + BO))

    assert merged == SignedFile(text=TEXT, armors=(ANA, BO))


def test_a_signature_is_merged_once_however_it_is_spelt() -> None:
    """Signatures are compared decoded; the first armor is kept, in its place."""
    one = SignedFile(text=TEXT, armors=(ANA, BO, ANA))
    other = SignedFile(text=TEXT, armors=(LUC, rewrapped(ANA), BO))

    assert rewrapped(ANA) != ANA
    assert merge_signed_files(one, other).armors == (ANA, BO, LUC)


def test_another_text_is_never_merged() -> None:
    """Different texts are refused, and the message has the codes of both."""
    other = ORGANISATION.command(reason="another reason")
    with pytest.raises(Malformed) as caught:
        merge_signed_files(parse_signed_file(SIGNED), parse_signed_file(other))

    assert caught.value.stable_code == "different-text"
    assert code(TEXT) in caught.value.message
    assert code(other) in caught.value.message


def test_a_broken_block_is_not_merged() -> None:
    """Merging a malformed block is refused."""
    broken = SignedFile(text=TEXT, armors=(ANA.replace(b"U1NIU0lH", b"U1NIU0lI"),))
    with pytest.raises(Malformed, match="magic"):
        merge_signed_files(broken, parse_signed_file(SIGNED))


def test_a_merged_file_has_the_same_limits() -> None:
    """A merge with too many signatures is refused, as on a node."""
    many = [ORGANISATION.approve(TEXT, "ana", hash_name="sha256")]
    many += [
        Organisation(f"p{nth} q").approve(TEXT, f"p{nth}") for nth in range(bounds.MAX_SIGNATURES)
    ]
    one = SignedFile(text=TEXT, armors=tuple(many[:9]))
    other = SignedFile(text=TEXT, armors=tuple(many[8:]))
    with pytest.raises(Malformed) as caught:
        merge_signed_files(one, other)

    assert caught.value.stable_code == "too-large"


armors = st.lists(st.sampled_from([ANA, BO, LUC, rewrapped(ANA), rewrapped(BO)]), max_size=6)


@property_test
@given(armors, armors, armors)
def test_merging_is_a_union(first: list[bytes], second: list[bytes], third: list[bytes]) -> None:
    """Merging is associative, commutative and idempotent in the signatures."""
    one, two, three = (SignedFile(text=TEXT, armors=tuple(some)) for some in (first, second, third))

    def decoded(file: SignedFile) -> set[bytes]:
        return {b"".join(armor.splitlines()[1:-1]) for armor in file.armors}

    merged = merge_signed_files(one, two)
    assert decoded(merged) == decoded(one) | decoded(two) == decoded(merge_signed_files(two, one))
    assert len(merged.armors) == len(decoded(merged))
    assert merge_signed_files(merged, merged) == merged == merge_signed_files(merged, one)
    left = merge_signed_files(merged, three)
    assert left == merge_signed_files(one, merge_signed_files(two, three))


# Repair.


@pytest.mark.parametrize(
    "bent",
    [
        SIGNED,
        b"\xef\xbb\xbf" + SIGNED,
        SIGNED.replace(b"\n", b"\r\n"),
        SIGNED.replace(b"\n", b"\r\r\n"),
        SIGNED.replace(b"\n", b"\r"),
        SIGNED.replace(b"\n", b"  \n"),
        SIGNED.replace(b"\n", b"\t\r\n"),
        SIGNED.replace(b"\n", b"\n\n"),
        SIGNED.removesuffix(b"\n"),
        b"\n\n" + SIGNED + b"\n\n",
        b"  \n\t " + SIGNED + b" \n ",
        TEXT + b"\n" + ANA + b"\n\n" + BO,
    ],
)
def test_what_mail_and_chat_do_is_undone(bent: bytes) -> None:
    """Line ends, byte order marks and blanks that no signed file has are removed."""
    assert repair(bent) == SIGNED


@pytest.mark.parametrize("empty", [b"", b"\n", b" \r\n\t", b"\xef\xbb\xbf"])
def test_nothing_stays_nothing(empty: bytes) -> None:
    """An empty file is repaired to an empty one, which the parser refuses."""
    assert repair(empty) == b""


def test_what_people_meant_is_left_alone() -> None:
    """Blanks inside a line stay: repair never changes signed text."""
    spaced = ORGANISATION.command(reason="two  blanks, and one before the quote ")

    assert repair(spaced + ANA) == spaced + ANA
    assert repair(SIGNED.replace(b"telemetry floods", b"telemetry  floods")) != SIGNED


@property_test
@given(st.dictionaries(free_text, free_text, max_size=4))
def test_a_canonical_text_needs_no_mending(document: dict[str, str]) -> None:
    """Repair leaves every canonical text unchanged."""
    raw = render(dict(document)) + ANA

    assert repair(raw) == raw


@property_test
@given(st.lists(st.sampled_from([b" ", b"\t", b"\r", b"\n", b"{", b"ab", b"\xc3"])).map(b"".join))
def test_mending_twice_is_mending_once(raw: bytes) -> None:
    """Repairing any bytes twice gives the same as once."""
    assert repair(repair(raw)) == repair(raw)


# Digest and code.


def test_a_text_has_a_digest_and_a_code() -> None:
    """The code is the start of the digest, in sixteen letters that can be read aloud."""
    found = code(TEXT)

    assert digest(TEXT) == hashlib.sha256(TEXT).hexdigest()
    assert [len(group) for group in found.split("-")] == [4, 4, 4, 4]
    raw = base64.b32decode(found.replace("-", "").upper())
    assert digest(TEXT).startswith(raw.hex())
    assert len(raw) * 8 == 80
    assert code(b"") == "4oym-iquy-7qob-jgx3"


# Any input.


@property_test
@given(
    st.lists(
        st.sampled_from([TEXT, ANA, BO, ANA[:30], ANA[-28:], b"\n", b"{}\n"])
        | st.binary(max_size=9),
        max_size=8,
    )
)
def test_any_bytes_are_a_signed_file_or_malformed(pieces: list[bytes]) -> None:
    """Any bytes are parsed and render to the same bytes, or raise Malformed."""
    raw = b"".join(pieces)
    with contextlib.suppress(Malformed):
        file = parse_signed_file(raw)
        assert render_signed_file(file) == raw
        assert parse_signed_file(render_signed_file(file)) == file
        assert merge_signed_files(file, file).text == file.text
