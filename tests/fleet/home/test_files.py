# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all, and never over a folder with files in it."""

import stat
import threading
from pathlib import Path

import pytest

from breakglass.errors import FileUnreadable
from breakglass.fleet.home import files


def names_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return [one.name for one in folder.iterdir()]


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """The new content and mode are there, and nothing else is left in the folder."""
    path = tmp_path / "f"
    path.write_bytes(b"old")
    files.write_atomically(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names_in(tmp_path) == ["f"]


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    """The link stays a link; its target is replaced."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    """A failed write is an error with the path and the text of the operating system."""
    with pytest.raises(FileUnreadable, match="no such file") as found:
        files.write_atomically(tmp_path / "none" / "f", b"x")
    assert found.value.stable_code == "file-unwritable"


def test_a_failed_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """If making the new content fails, the old content stays."""
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(_: bytes) -> bytes:
        raise FileUnreadable("bad luck")

    with pytest.raises(FileUnreadable, match="luck"):
        files.change_atomically(path, fail, max_bytes=100)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["f"]


def test_changes_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Each change sees the one before it, although each replaces the locked file."""
    path = tmp_path / "f"
    path.write_bytes(b"")

    def add() -> None:
        for _ in range(20):
            files.change_atomically(path, lambda raw: raw + b"x", max_bytes=1000)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == b"x" * 80


def test_a_file_beyond_its_bound_is_refused(tmp_path: Path) -> None:
    """One byte more than the bound is an error; exactly the bound is not."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10)
    assert len(files.read_bounded(path, max_bytes=10)) == 10
    with pytest.raises(FileUnreadable, match="more than 9 bytes"):
        files.read_bounded(path, max_bytes=9)


def test_a_folder_is_made_whole_with_its_modes(tmp_path: Path) -> None:
    """Files are private unless named public, parents are made, no other file is left."""
    made = tmp_path / "a" / "b"
    files.write_folder(made, {"x": b"1", "sub/y": b"2"}, public=frozenset({"x"}))
    modes = {name: stat.S_IMODE((made / name).stat().st_mode) for name in ("", "x", "sub", "sub/y")}
    assert modes == {"": 0o700, "x": 0o644, "sub": 0o700, "sub/y": 0o600}
    assert names_in(tmp_path / "a") == ["b"]


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    """Only a missing or an empty folder is."""
    files.write_folder(tmp_path / "empty", {"x": b"1"}, public=frozenset())
    with pytest.raises(FileUnreadable) as found:
        files.write_folder(tmp_path / "empty", {"x": b"2"}, public=frozenset())
    assert found.value.stable_code == "exists"
    assert (tmp_path / "empty" / "x").read_bytes() == b"1"
