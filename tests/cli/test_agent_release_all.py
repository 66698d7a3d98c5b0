# SPDX-License-Identifier: Apache-2.0
"""The output of `breakglass-agent release-all`: what was released, what was not, what to do next.

It touches no pod: the program runs with the pods of a control group that does not exist.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from breakglass.agent.log.auditlog import AuditLog
from breakglass.core.checkpoint import LogSigner
from tests.support import own_pods
from tests.support.agent_process import NodeFiles, Tls
from tests.support.organisation import Organisation

MISSING_GROUP = "/no-lab-has-this-group"


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    """Return a node's folder, whose agent never ran."""
    made = NodeFiles(
        folder=tmp_path / "n",
        organisation=Organisation(),
        tls=Tls.make(),
        runtime=tmp_path / "cri.sock",
    )
    return made.write()


def run(files: NodeFiles, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `release-all` on a node's files."""
    command = [sys.executable, "-m", own_pods.__name__, MISSING_GROUP, *words]
    return subprocess.run(
        [*command, "release-all", "--config", str(files.config)],
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def in_use(files: NodeFiles) -> Iterator[None]:
    """Lock the log, as a running agent does."""
    origin = files.vkey.partition("+")[0]
    log = AuditLog.open(files.log_directory, LogSigner(origin=origin, seed=files.seed))
    try:
        yield
    finally:
        log.close()


def test_nothing_held_is_said_and_is_no_failure(files: NodeFiles) -> None:
    """One line on stdout, nothing on stderr."""
    ran = run(files)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "no hold and no gate on this node\n", "")


def test_beside_a_running_agent_it_says_what_to_do_first(files: NodeFiles) -> None:
    """The running agent has locked the log, and it would gate every held pod again."""
    with in_use(files):
        ran = run(files)
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "[log-locked]" in ran.stderr
    assert "hint: stop the agent first: systemctl stop breakglass-agent" in ran.stderr


def test_a_log_that_cannot_be_used_is_told_with_the_next_step(files: NodeFiles) -> None:
    """It exits with 4: the agent would enforce the holds again that the log still has."""
    with in_use(files):
        pass
    (files.folder / "log.key").write_text("no key\n")
    ran = run(files)
    assert ran.returncode == 4
    assert "[not-released]" in ran.stderr
    assert "the log could not be used: expected 64 hex digits" in ran.stderr
    assert "docs/runbooks/let-go.md" in ran.stderr


def test_the_document_has_the_same_keys_however_it_ends(files: NodeFiles) -> None:
    """The JSON document has the same keys after success and failure."""
    keys = {"holds", "pods", "unrecorded", "failed", "log_error"}
    good = json.loads(run(files, "--output", "json").stdout)
    (files.folder / "log.key").unlink()
    bad = json.loads(run(files, "--output", "json").stdout)
    assert keys <= good.keys()
    assert keys <= bad.keys()
    assert (good["code"], bad["code"]) == ("ok", "not-released")
    assert (good["exit"], bad["exit"]) == (0, 4)
