# SPDX-License-Identifier: Apache-2.0
"""Files: written whole or not at all, and never over what is not ours to replace."""

import stat
import threading
from pathlib import Path

import pytest

from breakglass.errors import FileUnreadable
from breakglass.fleet.home import files


def names_in(folder: Path) -> list[str]:
    """Return what is in a folder."""
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
    """The link stays a link: what it points at is replaced."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    files.write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    """An impossible write is an error with the path and the system's words."""
    with pytest.raises(FileUnreadable, match="no such file") as found:
        files.write_atomically(tmp_path / "none" / "f", b"x")
    assert found.value.stable_code == "file-unwritable"


def test_a_failed_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Whatever goes wrong while the new content is made, the old one stays."""
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(_: bytes) -> bytes:
        raise FileUnreadable("expected luck, got none")

    with pytest.raises(FileUnreadable, match="luck"):
        files.change_atomically(path, fail, max_bytes=100)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["f"]


def test_changes_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Each change sees the one before it, though each replaces the file that is locked."""
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
    """One byte more than the limit is an error, and the limit itself is not."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10)
    assert len(files.read_bounded(path, max_bytes=10)) == 10
    with pytest.raises(FileUnreadable, match="at most 9 bytes"):
        files.read_bounded(path, max_bytes=9)


def test_a_folder_is_made_whole_with_its_modes(tmp_path: Path) -> None:
    """Private unless named public, parents made, nothing left beside it."""
    made = tmp_path / "a" / "b"
    files.write_folder(made, {"x": b"1", "sub/y": b"2"}, public=frozenset({"x"}))
    modes = {name: stat.S_IMODE((made / name).stat().st_mode) for name in ("", "x", "sub", "sub/y")}
    assert modes == {"": 0o700, "x": 0o644, "sub": 0o700, "sub/y": 0o600}
    assert names_in(tmp_path / "a") == ["b"]


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    """An empty one is; so is none."""
    files.write_folder(tmp_path / "empty", {"x": b"1"}, public=frozenset())
    with pytest.raises(FileUnreadable) as found:
        files.write_folder(tmp_path / "empty", {"x": b"2"}, public=frozenset())
    assert found.value.stable_code == "exists"
    assert (tmp_path / "empty" / "x").read_bytes() == b"1"
