# SPDX-License-Identifier: Apache-2.0
"""From keys to an approved file, without any node: only this machine and ssh-keygen."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from breakglass.core.signed_file import parse_signed_file
from scenarios.bastion import Bastion
from tests.cli.conftest import on_terminal


def text_of(file: str) -> bytes:
    """Return the signed text of a file."""
    return parse_signed_file(Path(file).read_bytes()).text


def test_init_shows_what_people_must_compare(new_bastion: Callable[[], Bastion]) -> None:
    """The trust's digest and each fingerprint, as ssh-keygen shows it."""
    bastion = new_bastion()
    given = [
        part for one in ("ana", "bo") for part in ("--person", f"{one}={bastion.path(one)}.pub")
    ]
    ran = bastion.json("init", "--domain", "example", *given)
    assert ran.exit == 0
    shown = subprocess.run(
        ["ssh-keygen", "-lf", bastion.path("ana.pub")], capture_output=True, text=True, check=True
    )
    assert ran.json["people"][0]["keys"][0]["fingerprint"] in shown.stdout
    assert len(ran.json["trust"]["sha256"]) == 64


def test_two_approvals_make_an_approved_command(bastion: Bastion) -> None:
    """Draft, two approvals with the real ssh-keygen, verdict (P2)."""
    file = bastion.draft()
    before = text_of(file)
    short = bastion.json("verify", file)
    assert (short.exit, short.json["code"], short.json["verdict"]) == (3, "unsigned", "refused")
    assert bastion.approve(file, "ana").exit == 0
    short = bastion.json("verify", file)
    assert (short.exit, short.json["code"]) == (3, "quorum-short")
    assert (short.json["have"], short.json["missing"]) == ("1 (ana)", ["bo"])
    assert bastion.approve(file, "bo").exit == 0
    whole = bastion.json("verify", file)
    assert (whole.exit, whole.json["verdict"], whole.json["policies"]) == (
        0,
        "approved",
        ["default"],
    )
    assert text_of(file) == before


def test_the_requesters_own_approval_is_warned_about_and_not_counted(bastion: Bastion) -> None:
    """It is added, because another policy may count it, but it does not count here."""
    file = bastion.draft()
    bastion.approve(file, "ana")
    ran = bastion.approve(file, "luc")
    assert ran.exit == 0
    assert "requester" in ran.err
    assert bastion.json("verify", file).json["code"] == "requester-approved"


def test_a_stranger_is_warned_and_counts_for_nothing(bastion: Bastion) -> None:
    """The trust does not list eve's key."""
    file = bastion.draft()
    ran = bastion.approve(file, "eve")
    assert ran.exit == 0
    assert "does not list the key" in ran.err
    assert bastion.json("verify", file).json["code"] == "signature-stranger"


def test_approving_twice_adds_nothing(bastion: Bastion) -> None:
    """The same signature is the same approval."""
    file = bastion.draft()
    bastion.approve(file, "ana")
    before = Path(file).read_bytes()
    assert bastion.approve(file, "ana").exit == 0
    assert Path(file).read_bytes() == before


def test_an_approver_needs_no_home(bastion: Bastion, tmp_path: Path) -> None:
    """The file, a key and OpenSSH are enough; it says that no signature was checked (P10)."""
    file = bastion.draft()
    away = Bastion(tmp_path / "away", program=bastion.program)
    ran = away.run("approve", file, "--key", bastion.path("ana"), "--yes")
    assert ran.exit == 0
    assert "no trust on this machine" in ran.err
    assert bastion.json("show", file).json["approvals"][0]["person"] == "ana"


def test_a_key_in_an_agent_signs_through_its_public_file(
    bastion: Bastion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The private key is in the agent and not on the disk."""
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True)
    words = dict(
        part.split("=", 1) for part in started.stdout.replace(";", "\n").split("\n") if "=" in part
    )
    for name, value in words.items():
        monkeypatch.setenv(name.strip(), value)
    try:
        subprocess.run(["ssh-add", "-q", bastion.path("bo")], check=True, capture_output=True)
        Path(bastion.path("bo")).unlink()
        file = bastion.draft()
        ran = bastion.run("approve", file, "--key", bastion.path("bo.pub"), "--yes")
        assert ran.exit == 0, ran.err
        assert bastion.json("show", file).json["approvals"][0]["person"] == "bo"
    finally:
        subprocess.run(["ssh-agent", "-k"], check=True, capture_output=True)


def test_an_old_signature_beside_the_file_is_not_in_the_way(bastion: Bastion) -> None:
    """ssh-keygen would ask, or keep the old one with status 0; it signs in another folder."""
    file = bastion.draft()
    Path(f"{file}.sig").write_bytes(b"stale")
    assert bastion.approve(file, "ana").exit == 0
    assert Path(f"{file}.sig").read_bytes() == b"stale"


def test_raw_is_what_stock_openssh_signs(bastion: Bastion) -> None:
    """`show --raw`, `ssh-keygen -Y sign`, `merge`: an approval without this program (P10)."""
    file = bastion.draft()
    shown = bastion.command("show", file, "--raw")
    ran = subprocess.run(shown, capture_output=True, check=True)
    assert ran.stdout == text_of(file)
    raw = Path(bastion.path("raw"))
    raw.write_bytes(ran.stdout)
    subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", "breakglass-command-v1", "-f", bastion.path("bo"), raw],
        check=True,
        capture_output=True,
    )
    bastion.approve(file, "ana")
    merged = bastion.run("merge", file, f"{raw}.sig", "-o", bastion.path("m"))
    assert merged.exit == 0
    assert bastion.run("verify", bastion.path("m")).exit == 0


def test_merging_is_a_union_in_any_order(bastion: Bastion) -> None:
    """Merging two copies with different approvals keeps each approval once."""
    one = bastion.draft()
    two = bastion.path("two")
    shutil.copy(one, two)
    bastion.approve(one, "ana")
    bastion.approve(two, "bo")
    for order in ((one, two), (two, one), (one, one, two, two)):
        ran = bastion.json("merge", *order, "-o", bastion.path("m"))
        assert ran.json["signatures"] == 2
        assert bastion.run("verify", bastion.path("m")).exit == 0


def test_a_file_that_mail_changed_is_still_the_file(bastion: Bastion) -> None:
    """CRLF line ends, a byte order mark and blank lines around it are removed."""
    file = bastion.draft()
    bastion.approve(file, "ana")
    bastion.approve(file, "bo")
    raw = Path(file).read_bytes()
    Path(file).write_bytes(b"\xef\xbb\xbf\r\n" + raw.replace(b"\n", b"\r\n") + b"\r\n")
    assert bastion.run("verify", file).exit == 0


def test_show_prints_exactly_the_signed_text(bastion: Bastion) -> None:
    """It prints the signed text (P3), the code, and the missing approvers."""
    file = bastion.draft()
    bastion.approve(file, "ana")
    ran = bastion.run("show", file)
    assert ran.exit == 0
    assert text_of(file).decode() in ran.out
    shown = bastion.json("show", file).json
    assert shown["spoken_code"] in ran.out
    assert "approved by ana" in ran.out
    assert "missing: any of bo" in ran.out
    assert "every node of prod-a" in ran.out


def test_a_drill_is_marked_before_anything_else(bastion: Bastion) -> None:
    """The first line and the summary say DRILL (P11)."""
    file = bastion.draft("f", "--mode", "drill")
    assert bastion.run("show", file).out.startswith("==== DRILL")
    assert bastion.json("show", file).json["summary"].startswith("DRILL: ")


@pytest.mark.parametrize("place", ["whole", "text", "after", "between"])
def test_a_hostile_file_cannot_fool_the_screen(bastion: Bastion, place: str) -> None:
    """Escape sequences and direction marks are printed escaped, in marked lines (P3)."""
    file = Path(bastion.draft())
    bastion.approve(str(file), "ana")
    raw, bad = file.read_bytes(), b"\x1b[2J\x1b[1;1H\xe2\x80\xaeharmless\x07"
    file.write_bytes(
        {
            "whole": bad,
            "text": raw.replace(b"it floods", bad),
            "after": raw + bad + b"\n",
            "between": raw.replace(b"-----BEGIN", bad + b"\n-----BEGIN"),
        }[place]
    )
    ran = bastion.run("show", str(file))
    assert ran.exit == 2
    assert "!! NOT A" in ran.out
    assert "\\x1b[2J" in ran.out
    for shown in (ran.out, ran.err):
        assert not any(character in shown for character in ("\x1b", "\u202e", "\x07", "\r"))
    assert bastion.run("approve", str(file), "--key", bastion.path("bo"), "--yes").exit == 2
    assert bastion.json("show", str(file)).exit == 2


def test_a_summary_that_lies_is_not_shown_as_one(bastion: Bastion) -> None:
    """A text whose summary differs from its other fields is not a command."""
    file = Path(bastion.draft())
    file.write_bytes(file.read_bytes().replace(b"at most 1 node,", b"at most 0 node,"))
    ran = bastion.run("show", str(file))
    assert (ran.exit, "[summary-mismatch]" in ran.err) == (2, True)
    assert "!! NOT A COMMAND" in ran.out


def test_a_person_is_asked_and_may_say_no(bastion: Bastion) -> None:
    """After a no, nothing is signed or written."""
    file = bastion.draft()
    before = Path(file).read_bytes()
    status, said = on_terminal(
        bastion, "approve", file, "--key", bastion.path("ana"), answers=(("[y/N]", "n\n"),)
    )
    assert (status, "[declined]" in said) == (130, True)
    assert Path(file).read_bytes() == before


def test_an_encrypted_key_asks_on_the_terminal(bastion: Bastion) -> None:
    """Also with DISPLAY set and no askpass program, where ssh-keygen alone would fail."""
    secret = bastion.path("locked")
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "open sesame", "-f", bastion.path("ana")],
        check=True,
        capture_output=True,
    )
    shutil.move(bastion.path("ana"), secret)
    file = bastion.draft()
    status, said = on_terminal(
        bastion,
        "approve",
        file,
        "--key",
        secret,
        answers=(("[y/N]", "y\n"), ("passphrase", "open sesame\n")),
    )
    assert status == 0, said
    assert bastion.json("show", file).json["approvals"][0]["person"] == "ana"


def test_a_locked_key_without_a_terminal_fails_and_changes_nothing(bastion: Bastion) -> None:
    """ssh-keygen cannot ask for the passphrase: it fails at once and the file does not change."""
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "open sesame", "-f", bastion.path("ana")],
        check=True,
        capture_output=True,
    )
    file = bastion.draft()
    before = Path(file).read_bytes()
    ran = bastion.json("approve", file, "--key", bastion.path("ana"), "--yes")
    assert (ran.exit, ran.json["code"]) == (2, "sign-failed")
    assert Path(file).read_bytes() == before


def test_a_draft_counts_the_nodes_it_is_for(bastion: Bastion) -> None:
    """The cap in the signed text is the number of inventory nodes, or --max-nodes (P8)."""
    bastion.add_node("n2", "192.0.2.2")
    bastion.add_node("m1", "192.0.2.3")
    for extra, nodes, limit in (
        ((), ["n1", "n2", "m1"], 3),
        (("--node", "n*"), ["n1", "n2"], 2),
        (("--node", "n[1-2]", "--except", "n1"), ["n2"], 1),
        (("--max-nodes", "9"), ["n1", "n2", "m1"], 9),
    ):
        out = bastion.path("d")
        ran = bastion.json(
            "draft", "stop", "a/b@5d4f", "--cluster", "prod-a", "--reason", "r", *extra, "-o", out
        )
        assert ran.json["nodes"] == nodes
        assert json.loads(Path(out).read_bytes())["limits"]["max_nodes"] == limit


def test_a_draft_never_replaces_approvals(bastion: Bastion) -> None:
    """A draft without approvals may be replaced; a signed file or any other file may not."""
    file = bastion.draft()
    bastion.draft()
    bastion.approve(file, "ana")
    for name in ("f", "ana"):
        before = Path(bastion.path(name)).read_bytes()
        ran = bastion.json(
            "draft", "stop", "a/b", "--cluster", "prod-a", "--reason", "r", "-o", bastion.path(name)
        )
        assert (ran.exit, ran.json["code"]) == (2, "exists")
        assert Path(bastion.path(name)).read_bytes() == before


def test_a_quorum_that_cannot_come_together_is_warned_about(
    new_bastion: Callable[[], Bastion],
) -> None:
    """Two people, two approvals, and one of them is the requester: it can never be approved."""
    bastion = new_bastion()
    bastion.init("ana bo")
    ran = bastion.run(
        "draft", "stop", "a/b", "--cluster", "c", "--reason", "r", "--requester", "bo",
        "-o", bastion.path("f"),
    )  # fmt: skip
    assert ran.exit == 0
    assert "can never be approved" in ran.err
