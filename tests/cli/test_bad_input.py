# SPDX-License-Identifier: Apache-2.0
"""Bad input for every verb: message, stable code, exit status and hint, and no file changed."""

import re
from pathlib import Path

import pytest

from scenarios.bastion import Bastion

ID = "01a1fc9c-8d29-7572-aaf2-402d4871c76c"


def _draft(verb: str, *extra: str) -> tuple[str, ...]:
    """Return the arguments that draft a command of this verb."""
    where = ("monitoring/telemetry", "--cluster", "prod-a", "--reason", "r", "-o", "{out}")
    return ("draft", verb, *where, *extra)


DRAFT = _draft("stop")
INIT = ("--home", "{other}", "init", "--domain", "example")
ANA, BO = ("--person", "ana={ana}.pub"), ("--person", "bo={bo}.pub")


# Errors of files and programs say what happened; all other input is parsed or validated, and its
# errors say "expected X, got Y".
SAYS_WHAT_HAPPENED = {
    "exists": r"cannot write .+: it exists and is not an empty folder",
    "file-unreadable": r"cannot read .+: ",
    "file-unwritable": r"cannot write .+: ",
    "sign-failed": r"ssh-keygen did not sign: it ended with status [0-9]+",
}

CASES: list[tuple[tuple[str, ...], int, str]] = [
    # init
    (INIT, 2, "too-few-people"),
    ((*INIT, *ANA), 2, "too-few-people"),
    ((*INIT, *ANA, "--person", "bo"), 2, "usage"),
    ((*INIT, *ANA, "--person", "=x"), 2, "usage"),
    ((*INIT, *ANA, "--person", "bo={none}"), 2, "file-unreadable"),
    ((*INIT, *ANA, "--person", "bo={bo}"), 2, "private-key"),
    ((*INIT, *ANA, "--person", "bo={text}"), 2, "malformed"),
    ((*INIT, *ANA, "--person", "Bo={bo}.pub"), 2, "malformed"),
    ((*INIT, *ANA, *BO, "--quorum", "1"), 2, "quorum-unsatisfiable"),
    ((*INIT, *ANA, *BO, "--quorum", "x"), 2, "usage"),
    (("--home", "{other}", "init", "--domain", "Ex ample", *ANA, *BO), 2, "malformed"),
    (("init", "--domain", "example", *ANA, *BO), 2, "exists"),
    (("init", *ANA, *BO), 2, "usage"),
    # node
    (("node", "add", "n2", "db.example", "--cluster", "prod-a"), 2, "not-an-address"),
    (("node", "add", "n2", "192.0.2.9:0", "--cluster", "prod-a"), 2, "malformed"),
    (("node", "add", "N2", "192.0.2.9", "--cluster", "prod-a"), 2, "malformed"),
    (("node", "add", "n2", "192.0.2.9"), 2, "usage"),
    (("node", "add", "n1", "192.0.2.9", "--cluster", "prod-a"), 2, "exists"),
    (("node", "add", "n2", "192.0.2.1", "--cluster", "prod-a"), 2, "config-invalid"),
    (("node", "add", "n2", "192.0.2.9", "--cluster", "prod-a", "--pool", "a b"), 2, "malformed"),
    (("node", "bundle", "n9", "--out", "{out}"), 2, "unknown-node"),
    (("node", "bundle", "n1", "--out", "{home}"), 2, "exists"),
    (("node", "bundle", "n1", "--out", "/dev/null/x"), 2, "file-unwritable"),
    (("--home", "{other}", "node", "bundle", "n1", "--out", "{out}"), 2, "no-home"),
    # draft
    ((*DRAFT, "--hold", "25h"), 3, "hold-too-long"),
    ((*DRAFT, "--hold", "169h"), 2, "malformed"),
    ((*DRAFT, "--hold", "2"), 2, "malformed"),
    ((*DRAFT, "--image", "telemetry:1.2"), 2, "malformed"),
    ((*DRAFT, "--command", ID), 2, "usage"),
    (_draft("evict", "--hold", "25h"), 3, "hold-too-long"),
    (_draft("evict", "--command", ID), 2, "usage"),
    (_draft("release", "--command", "INC-1"), 2, "malformed"),
    (_draft("release", "--command", ""), 2, "empty-target"),
    (_draft("extend", "--command="), 2, "empty-target"),
    ((*DRAFT, "--image", ""), 2, "empty-target"),
    (_draft("release", "--hold", "2h"), 2, "usage"),
    (_draft("release", "--grace", "2s"), 2, "usage"),
    (_draft("release", "--image", f"sha256:{'ab' * 32}"), 2, "usage"),
    (_draft("extend", "--hold", "0s"), 2, "usage"),
    (_draft("extend", "--hold", "25h"), 3, "hold-too-long"),
    (_draft("extend", "--grace", "2s"), 2, "usage"),
    (_draft("explode"), 2, "usage"),
    ((*DRAFT, "--grace", "30"), 2, "malformed"),
    ((*DRAFT, "--grace", "2d"), 2, "malformed"),
    ((*DRAFT, "--valid", "0s"), 2, "usage"),
    ((*DRAFT, "--valid", "48h"), 2, "malformed"),
    ((*DRAFT, "--mode", "test"), 2, "usage"),
    ((*DRAFT, "--cluster", "prod-*"), 2, "wild-target"),
    ((*DRAFT, "--cluster", ""), 2, "empty-target"),
    ((*DRAFT, "--node", ""), 2, "empty-target"),
    ((*DRAFT, "--node", "*"), 2, "wild-target"),
    ((*DRAFT, "--node", "n[9-1]"), 2, "malformed"),
    ((*DRAFT, "--node", "x*"), 2, "empty-target"),
    ((*DRAFT, "--requester", "Not A Name"), 2, "malformed"),
    ((*DRAFT, "--max-nodes", "0"), 2, "malformed"),
    ((*DRAFT, "--max-pods", "0"), 2, "malformed"),
    ((*DRAFT, "--incident", "caf\u00e9"), 2, "malformed"),
    (
        ("draft", "stop", "*/*", "--cluster", "prod-a", "--reason", "r", "-o", "{out}"),
        2,
        "wild-target",
    ),
    (
        ("draft", "stop", "", "--cluster", "prod-a", "--reason", "r", "-o", "{out}"),
        2,
        "empty-target",
    ),
    (
        ("draft", "stop", "telemetry", "--cluster", "prod-a", "--reason", "r", "-o", "{out}"),
        2,
        "malformed",
    ),
    (
        ("draft", "stop", "a/b@zzz", "--cluster", "prod-a", "--reason", "r", "-o", "{out}"),
        2,
        "malformed",
    ),
    (("draft", "stop", "a/b", "--reason", "r", "-o", "{out}"), 2, "empty-target"),
    (("draft", "stop", "a/b", "--cluster", "prod-a", "-o", "{out}"), 2, "usage"),
    (
        ("draft", "stop", "a/b", "--cluster", "prod-z", "--reason", "r", "-o", "{out}"),
        2,
        "empty-target",
    ),
    (("draft", "stop", "a/b", "--cluster", "prod-a", "--reason", "r"), 2, "usage"),
    (("--home", "{other}", *DRAFT), 2, "no-home"),
    # show, verify, run and others on a file that is not a signed file
    *[
        ((verb, path, *extra), 2, code)
        for verb, extra in (
            ("show", ()),
            ("show", ("--raw",)),
            ("verify", ()),
            ("run", ("--yes",)),
            ("approve", ("--key", "{ana}", "--yes")),
            ("merge", ("{file}", "-o", "{out}")),
        )
        for path, code in (
            ("{none}", "file-unreadable"),
            ("{home}", "file-unreadable"),
            ("{binary}", "malformed"),
            ("{empty}", "malformed"),
            ("{large}", "file-unreadable"),
            ("{trailing}", "trailing-text"),
        )
    ],
    (("show", "{text}"), 2, "malformed"),
    (("approve", "{text}", "--key", "{ana}", "--yes"), 2, "malformed"),
    (("verify", "{text}"), 3, "unsigned"),
    (("run", "{text}", "--yes"), 3, "unsigned"),
    (("run", "{file}", "--yes"), 3, "unsigned"),
    (("verify", "{file}"), 3, "unsigned"),
    (("--home", "{other}", "verify", "{file}"), 2, "no-home"),
    (("--home", "{other}", "run", "{file}", "--yes"), 2, "no-home"),
    # approve
    (("approve", "{file}", "--key", "{none}", "--yes"), 2, "file-unreadable"),
    (("approve", "{file}", "--key", "{empty}", "--yes"), 2, "file-unreadable"),
    (("approve", "{file}", "--key", "{text}", "--yes"), 2, "sign-failed"),
    (("approve", "{file}", "--key", "{cert}", "--yes"), 2, "certificate-key"),
    (("approve", "{file}", "--key", "{ana}"), 2, "no-terminal"),
    (("approve", "{file}"), 2, "usage"),
    # merge
    (("merge", "{file}", "-o", "{out}"), 2, "usage"),
    (("merge", "{file}", "{file}", "-o", "{none}/x"), 2, "file-unwritable"),
    (("merge", "{file}", "{other_file}", "-o", "{out}"), 2, "different-text"),
    (("merge", "{file}", "{sig}", "-o", "{out}"), 2, "signature-invalid"),
    # asking nodes
    (("outcome", "12"), 2, "malformed"),
    (("outcome",), 2, "usage"),
    (("pods", "n9"), 2, "unknown-node"),
    (("log", "verify", "n9"), 2, "unknown-node"),
    (("--home", "{other}", "pods"), 2, "no-home"),
    (("--home", "{other}", "outcome", ID), 2, "no-home"),
    (("--home", "{other}", "log", "verify"), 2, "no-home"),
    # completion
    (("completion", "tcsh"), 2, "usage"),
]


@pytest.fixture
def places(bastion: Bastion) -> dict[str, str]:
    """Good and bad files, by the names that the cases use."""
    file, other = Path(bastion.draft("f")), Path(bastion.draft("g"))
    bastion.approve(str(other), "ana")
    approved = other.read_bytes()
    made = {
        "text": b"hello\n",
        "binary": b"\x00\xff\x1b" * 9,
        "empty": b"",
        "large": b"x" * 100_000,
        "trailing": approved + b"and more\n",
        "sig": approved[approved.index(b"-----BEGIN") :],
        "id-cert.pub": b"ssh-ed25519-cert-v01@openssh.com AAAA ana\n",
    }
    for name, raw in made.items():
        Path(bastion.path(name)).write_bytes(raw)
    return {
        **{name: bastion.path(name) for name in (*made, "ana", "bo", "none", "out", "home")},
        "cert": bastion.path("id-cert.pub"),
        "file": str(file),
        "other_file": str(other),
        "other": bastion.path("other-home"),
    }


def test_bad_input_is_one_clear_error_and_changes_nothing(
    bastion: Bastion, places: dict[str, str]
) -> None:
    """For each case: exit status, code, message and hint; and no file was made or changed."""
    for arguments, status, code in CASES:
        given = tuple(one.format(**places) for one in arguments)
        before = _contents(bastion.folder)
        ran = bastion.run(*given)
        assert (ran.exit, f"[{code}]" in ran.err) == (status, True), (arguments, ran)
        assert re.search(_message(code, arguments), ran.err), (arguments, ran.err)
        assert "hint: " in ran.err, (arguments, ran.err)
        assert "Traceback" not in ran.err
        if "--raw" not in given:
            asked = bastion.json(*given)
            assert (asked.exit, asked.json["code"]) == (status, code), arguments
            assert asked.json["hint"]
            assert asked.json["message"]
        assert _contents(bastion.folder) == before, arguments


def _message(code: str, arguments: tuple[str, ...]) -> str:
    """Return the pattern of the message of this code."""
    if code == "exists" and arguments[:2] == ("node", "add"):
        return "expected a new node name, got "
    return SAYS_WHAT_HAPPENED.get(code, r"(?s)expected .*, got")


def test_a_machine_without_ssh_keygen_says_so(
    bastion: Bastion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names ssh-keygen, the only tool that approving needs, and what to install."""
    file = bastion.draft()
    monkeypatch.setenv("PATH", bastion.path("nowhere"))
    ran = bastion.json("approve", file, "--key", bastion.path("ana"), "--yes")
    assert (ran.exit, ran.json["code"]) == (2, "tool-missing")
    assert "OpenSSH" in ran.json["hint"]


def test_an_unreadable_inventory_or_trust_is_said(bastion: Bastion) -> None:
    """A file that was edited wrongly is refused by name, before any node is contacted."""
    home = Path(bastion.path("home"))
    (home / "inventory.toml").write_text('[[nodes]]\nname = "n1"\nrack = 7\n')
    ran = bastion.json("pods")
    assert (ran.exit, "inventory" in ran.json["message"]) == (2, True)
    (home / "trust" / "1.json").write_text("{}")
    ran = bastion.json("pods")
    assert ran.exit == 2
    file = bastion.path("f")
    Path(file).write_bytes(b"{}\n")
    assert "trust" in bastion.json("verify", file).json["message"]


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file() and one.name != ".lock"
    }
