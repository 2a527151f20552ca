"""A hash that was made is there the next time, for as long as its file is as it was."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from ktr.duplicates.hash_store import HashStore, state_of
from ktr.errors import StorageError

FILE = Path("v.mp4")


def test_what_was_put_is_there_in_its_state_and_of_its_kind_alone(tmp_path: Path):
    with closing(HashStore(tmp_path / "deep" / "h.sqlite")) as store:
        store.put("frames", FILE, "old", b"1")
        store.put("frames", FILE, "new", b"2")
        store.put("content", FILE, "new", b"3")
    with closing(HashStore(tmp_path / "deep" / "h.sqlite")) as store:
        found = [store.get(kind, FILE, state) for kind in ("frames", "content") for state in ("old", "new")]
        assert found == [None, b"2", None, b"3"] and store.get("frames", Path("w.mp4"), "new") is None


def test_two_may_use_the_file_at_once_and_what_was_put_needs_no_end(tmp_path: Path):
    with closing(HashStore(tmp_path / "h.sqlite")) as one, closing(HashStore(tmp_path / "h.sqlite")) as other:
        one.put("k", FILE, "s", b"1")
        other.put("l", FILE, "s", b"2")
        assert one.get("l", FILE, "s") == b"2" and other.get("k", FILE, "s") == b"1"


def test_a_file_that_is_no_database_is_begun_anew_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "h.sqlite").write_bytes(b"no database, but long enough to be taken for one" * 30)
    with closing(HashStore(tmp_path / "h.sqlite")) as store:
        store.put("k", FILE, "s", b"1")
        assert store.get("k", FILE, "s") == b"1"
    assert "is damaged" in caplog.text


def test_a_place_that_cannot_be_used_is_one_sentence(tmp_path: Path):
    (tmp_path / "h.sqlite").mkdir()
    with pytest.raises(StorageError, match=r"h\.sqlite cannot be used .* search\.store"):
        HashStore(tmp_path / "h.sqlite")


def test_the_state_changes_with_the_file_and_with_any_file_of_a_folder(tmp_path: Path):
    file = tmp_path / "frames" / "1.jpg"
    file.parent.mkdir()
    states = []
    for size, changed in ((1, 5), (1, 6), (2, 6)):
        file.write_bytes(b"x" * size)
        os.utime(file, (changed, changed))
        assert state_of(file) == state_of(file.parent)
        states.append(state_of(file))
    (file.parent / "2.jpg").write_bytes(b"")
    os.utime(file.parent / "2.jpg", (6, 6))
    states.append(state_of(file.parent))
    assert len(set(states)) == len(states)
