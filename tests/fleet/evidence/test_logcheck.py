# SPDX-License-Identifier: Apache-2.0
"""Verifying a node's whole log: honest logs, and each way in which a log can fail."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from breakglass.core.decide import Approved
from breakglass.core.entries import Suppressed
from breakglass.errors import Unreached
from breakglass.fleet.evidence.logcheck import LogRow, check_log
from breakglass.fleet.home.inventory import InventoryNode
from breakglass.fleet.roads.port import LoggedEntry, OpenRoad, Road
from breakglass.fleet.rollout.roll_out import roll_out
from tests.support.fake_node import FakeNode, FakeRoad, forged, roads_to
from tests.support.organisation import Organisation

ORGANISATION = Organisation()


def node_with_command() -> FakeNode:
    """Return a node that carried a command out, with a log of several pages."""
    node = FakeNode(organisation=ORGANISATION)
    text = ORGANISATION.command()
    approved = ORGANISATION.decide(text, "ana", "bo")
    assert isinstance(approved, Approved)
    node.carry_out(approved, ORGANISATION.signed(text, "ana bo"))
    for count in range(9):  # more than one page
        node.record(Suppressed(count=count))
    return node


def check(node: FakeNode, folder: Path, *, pin: str = "", road: OpenRoad | None = None) -> LogRow:
    """Verify a node's log as `log verify` does."""
    return asyncio.run(
        check_log(
            node.row,
            open_road=road or roads_to(node),
            folder=folder / "n1",
            trust_sha256=pin or ORGANISATION.trust.sha256,
        )
    )


def test_an_honest_log_verifies_and_is_kept(tmp_path: Path) -> None:
    """Every page is read, the decision is decided again, and the log is stored."""
    node = node_with_command()
    row = check(node, tmp_path)
    assert (row.state, row.entries, row.code) == ("verified", len(node.entries_made), "")
    assert row.report is not None
    assert row.report.approved == 1
    assert (tmp_path / "n1" / "log.jsonl").read_bytes().splitlines() == node.entries_made
    assert check(node, tmp_path).state == "verified"


def test_a_log_may_grow_between_two_looks(tmp_path: Path) -> None:
    """A longer log than the stored one verifies."""
    node = node_with_command()
    check(node, tmp_path)
    node.record(Suppressed(count=99))
    assert check(node, tmp_path).state == "verified"


def test_a_log_may_grow_while_it_is_read(tmp_path: Path) -> None:
    """Entries after the first checkpoint are left to the next read."""
    node = node_with_command()
    before = len(node.entries_made)

    class Growing(FakeRoad):
        async def entries(self, first: int) -> AsyncGenerator[LoggedEntry, None]:
            async for one in super().entries(first):
                yield one
            self.node.record(Suppressed(count=first))

    @contextlib.asynccontextmanager
    async def road(_: InventoryNode) -> AsyncIterator[Road]:
        yield Growing(node=node)

    row = check(node, tmp_path, road=road)
    assert (row.state, row.entries) == ("verified", before)


def test_a_forged_decision_is_found_out(tmp_path: Path) -> None:
    """The tree is whole, but the signatures in the log do not prove the recorded decision."""
    node = node_with_command()
    liar = forged(node, 2, b'"person":"bo"', b'"person":"luc"')
    row = check(liar, tmp_path)
    assert (row.state, row.code) == ("bad", "decision-not-proven")
    assert "entry 2" in row.message
    assert not (tmp_path / "n1" / "log.jsonl").exists()


def test_another_trust_than_the_pinned_one_is_found_out(tmp_path: Path) -> None:
    """A node with a trust of its own proves its decisions with the wrong people."""
    row = check(node_with_command(), tmp_path, pin="0" * 64)
    assert (row.state, row.code) == ("bad", "decision-not-proven")


def test_a_forgotten_end_is_found_out(tmp_path: Path) -> None:
    """A log that is shorter than the stored checkpoint."""
    node = node_with_command()
    check(node, tmp_path)
    node.entries_made.pop()
    node.tree.truncate(len(node.entries_made))
    assert check(node, tmp_path).code == "log-shrank"


def test_a_rewritten_entry_is_found_out(tmp_path: Path) -> None:
    """A log with another history, longer than the stored checkpoint."""
    node = node_with_command()
    check(node, tmp_path)
    liar = forged(node, 1, b'"mono_ms":1', b'"mono_ms":9')
    liar.record(Suppressed(count=1))
    assert check(liar, tmp_path).code == "log-forked"


def test_a_receipt_that_the_log_does_not_hold_is_found_out(tmp_path: Path) -> None:
    """Each stored receipt must be in the log, even if the stored checkpoint is missing."""
    node = FakeNode(organisation=ORGANISATION)
    text = ORGANISATION.command()
    approved = ORGANISATION.decide(text, "ana", "bo")
    assert isinstance(approved, Approved)
    asyncio.run(
        roll_out(
            approved.command,
            ORGANISATION.signed(text, "ana bo"),
            [node.row],
            open_road=roads_to(node),
            evidence_folder=lambda row: tmp_path / row.name,
        )
    )
    assert check(node, tmp_path).state == "verified"
    (tmp_path / "n1" / "checkpoint").unlink()
    fresh = FakeNode(organisation=ORGANISATION)
    for count in range(9):
        fresh.record(Suppressed(count=count))
    assert check(fresh, tmp_path).code == "log-forked"


@pytest.mark.parametrize("breaks", ["order", "newline", "checkpoint", "silence", "root"])
def test_entries_that_make_no_log_are_found_out(tmp_path: Path, breaks: str) -> None:
    """Wrong order, two lines in one entry, no checkpoint, no entry at all, another root."""
    node = node_with_command()

    class Broken(FakeRoad):
        async def entries(self, first: int) -> AsyncGenerator[LoggedEntry, None]:
            if breaks == "silence":
                return
            async for one in super().entries(first):
                if breaks == "order":
                    yield replace(one, index=one.index + 1)
                elif breaks == "newline":
                    yield replace(one, entry=one.entry + b"\n{}")
                elif breaks == "checkpoint":
                    yield replace(one, checkpoint=b"")
                else:
                    yield replace(one, entry=one.entry.replace(b'"count":3', b'"count":4'))

    @contextlib.asynccontextmanager
    async def road(_: InventoryNode) -> AsyncIterator[Road]:
        yield Broken(node=node)

    assert check(node, tmp_path, road=road).state == "bad"


def test_no_answer_is_a_row(tmp_path: Path) -> None:
    """An unreached node is not a bad log."""
    node = FakeNode(organisation=ORGANISATION, down=Unreached("no answer"))
    row = check(node, tmp_path)
    assert (row.state, row.code, row.entries) == ("unreached", "unreached", 0)


def test_a_damaged_store_of_ours_is_an_alarm(tmp_path: Path) -> None:
    """A changed stored checkpoint or receipt fails the verification."""
    node = node_with_command()
    check(node, tmp_path)
    (tmp_path / "n1" / "checkpoint").write_bytes(b"other\n\nsignature\n")
    assert check(node, tmp_path).state == "bad"
    (tmp_path / "n1" / "checkpoint").unlink()
    (tmp_path / "n1" / "receipts").mkdir()
    (tmp_path / "n1" / "receipts" / "1.jsonl").write_bytes(b"{}\n")
    assert check(node, tmp_path).state == "bad"
