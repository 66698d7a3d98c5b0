# SPDX-License-Identifier: Apache-2.0
"""The command line as a whole: help, errors, exit statuses, one JSON document, a fast start."""

import shlex
import subprocess
import sys
import types
from collections.abc import Sequence

import click
import pytest

from breakglass.cli import main
from breakglass.cli.main import LATER, VERBS, cli
from breakglass.cli.result import DEBUG, as_known, printable
from breakglass.errors import BreakglassError, Exit
from scenarios.bastion import AGENT, BREAKGLASS, Bastion, Ran


def program(*arguments: str, start: Sequence[str] = BREAKGLASS) -> Ran:
    """Run the program as a process."""
    ran = subprocess.run(
        [*start, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ran(exit=ran.returncode, out=ran.stdout, err=ran.stderr)


def test_help_names_every_verb_and_the_exit_statuses() -> None:
    """`--help` goes to stdout and ends with 0."""
    ran = program("--help")
    assert ran.exit == 0
    assert all(f"  {verb} " in ran.out for verb in VERBS)
    assert "3 refused" in ran.out
    assert "\\b" not in ran.out


def test_starting_imports_nothing_slow() -> None:
    """`--help` imports none of these, so that it is fast on a loaded machine."""
    slow = (
        "rich",
        "grpc",
        "cryptography",
        "asyncio",
        "tomllib",
        "breakglass.core",
        "breakglass.fleet",
    )
    code = (
        "import sys\nfrom breakglass.cli import main\nmain.run(['--help'])\n"
        f"print([one for one in {slow!r} if one in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_line_in_help_is_the_verbs_own(verb: str) -> None:
    """The table behind `--help` has the same line as the verb's own help."""
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    assert command.get_short_help_str(limit=200) == VERBS[verb]
    assert main.run([verb, "--help"]) == 0


@pytest.mark.parametrize("verb", LATER)
def test_a_verb_of_a_later_version_says_so(bastion: Bastion, verb: str) -> None:
    """It is refused with the code "not-in-this-version"."""
    ran = bastion.json(verb)
    assert (ran.exit, ran.json["code"]) == (2, "not-in-this-version")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("bogus",),
        ("--bogus",),
        ("show",),
        ("node",),
        ("node", "bogus"),
        ("draft",),
        ("run", "a", "b"),
    ],
)
def test_a_wrong_command_line_is_one_error(bastion: Bastion, arguments: tuple[str, ...]) -> None:
    """Exit 2, a code, a hint that names the right help, nothing on stdout."""
    ran = bastion.run(*arguments)
    assert (ran.exit, ran.out) == (2, "")
    assert "[usage]" in ran.err
    assert "--help`" in ran.err
    assert "Traceback" not in ran.err
    assert bastion.json(*arguments).json["code"] == "usage"


def test_json_is_asked_for_wherever_it_stands_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that cannot be parsed is answered in JSON too."""
    assert main.run(["--bogus", "--output=json"]) == 2
    assert '"code": "usage"' in capsys.readouterr().out


@pytest.fixture
def defective(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that raises an unexpected exception."""
    module = types.ModuleType("breakglass.cli.commands.boom")

    @click.command()
    def command() -> None:
        raise ValueError("bo\x1bom")

    module.__dict__["command"] = command
    monkeypatch.setitem(VERBS, "boom", "Fail.")
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("defective")
def test_a_defect_of_ours_is_70_and_one_line(
    bastion: Bastion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback unless BREAKGLASS_DEBUG=1 is set; no control character in the message."""
    ran = bastion.run("boom")
    assert (ran.exit, ran.out) == (70, "")
    assert "[defect]" in ran.err
    assert "Traceback" not in ran.err
    assert "\x1b" not in ran.err
    monkeypatch.setenv(DEBUG, "1")
    assert "Traceback" in bastion.run("boom").err
    assert bastion.json("boom").json["code"] == "defect"


def test_an_interrupt_is_130() -> None:
    """Ctrl-C becomes `Interrupted`."""
    known = as_known(KeyboardInterrupt())
    assert (known.exit_status, known.stable_code) == (Exit.INTERRUPTED, "interrupted")


def test_a_reader_that_went_away_is_no_defect() -> None:
    """`breakglass completion bash | head -0` ends quietly."""
    line = f"{shlex.join(BREAKGLASS)} --help | true; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() in {"0", "130"}
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_for_each_shell(bastion: Bastion, shell: str) -> None:
    """The script has the program's name and click's variable."""
    ran = bastion.run("completion", shell)
    assert ran.exit == 0
    assert "_BREAKGLASS_COMPLETE" in ran.out
    assert "breakglass" in ran.out


def test_completion_completes_verbs() -> None:
    """The program answers a shell's completion request from the table of verbs."""
    ran = subprocess.run(
        [sys.executable, "-c", "from breakglass.cli.main import main; main()"],
        env={
            "_BREAKGLASS_COMPLETE": "bash_complete",
            "COMP_WORDS": "breakglass ap",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "plain,approve" in ran.stdout


def test_every_exit_status_of_the_tree_is_in_the_table() -> None:
    """Each error class has an exit status of the table."""
    kinds = [BreakglassError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.exit_status for kind in kinds} <= set(Exit)
    assert {int(one) for one in Exit} == {0, 2, 3, 4, 5, 6, 70, 130}


def test_what_came_from_outside_is_made_printable() -> None:
    """Escape sequences, direction marks and undecodable bytes are escaped."""
    assert printable("a\x1b[2Jb\u202ec\udcffd\te") == "a\\x1b[2Jb\\u202ec\\udcffd\\te"


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("dial-stdio",), 2, "not-in-this-version"),
        (("release-all", "--config", "/nonexistent/agent.toml"), 2, "file-unreadable"),
        (("metrics", "--config", "/nonexistent/agent.toml"), 2, "file-unreadable"),
        (("bogus",), 2, "usage"),
        ((), 2, "usage"),
        (("check-config", "--config", "/nonexistent/agent.toml"), 2, "file-unreadable"),
        (("serve", "--config", "/nonexistent/agent.toml"), 2, "file-unreadable"),
        (("submit", "--config", "/nonexistent/agent.toml"), 2, "file-unreadable"),
    ],
)
def test_the_program_on_the_node_answers_the_same_way(
    arguments: tuple[str, ...], status: int, code: str
) -> None:
    """One error with code and hint, the same exit statuses, no traceback."""
    ran = program(*arguments, start=AGENT)
    assert (ran.exit, ran.out) == (status, "")
    assert f"[{code}]" in ran.err
    assert "Traceback" not in ran.err
    asked = program("--output", "json", *arguments, start=AGENT)
    assert (asked.json["code"], asked.json["exit"]) == (code, status)


def test_the_program_on_the_node_imports_no_libraries_for_people() -> None:
    """A node installs four packages; neither click nor rich is one of them."""
    code = "import sys, breakglass.cli.agent; print({'click', 'rich'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
