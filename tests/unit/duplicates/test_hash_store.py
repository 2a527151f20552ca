"""A hash that was made is there the next time, for as long as its file is as it was."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from ktr.duplicates.hash_store import HashStore, key_of
from ktr.errors import StorageError


def test_what_was_put_is_there_and_nothing_else(tmp_path: Path):
    with closing(HashStore(tmp_path / "deep" / "h.sqlite")) as store:
        store.put("a", b"1")
        store.put("a", b"2")
    with closing(HashStore(tmp_path / "deep" / "h.sqlite")) as store:
        assert store.get("a") == b"2" and store.get("b") is None


def test_those_used_least_recently_go_where_there_are_too_many(tmp_path: Path):
    with closing(HashStore(tmp_path / "h.sqlite", 10)) as store:
        for number in range(10):
            store.put(str(number), b"x")
    with closing(HashStore(tmp_path / "h.sqlite", 10)) as store:
        assert store.get("0") == b"x"
        store.put("new", b"x")
    with closing(HashStore(tmp_path / "h.sqlite", 10)) as store:
        left = [name for name in (*map(str, range(10)), "new") if store.get(name)]
    assert left == ["0", "3", "4", "5", "6", "7", "8", "9", "new"]


def test_two_may_use_the_file_at_once(tmp_path: Path):
    with closing(HashStore(tmp_path / "h.sqlite")) as one, closing(HashStore(tmp_path / "h.sqlite")) as other:
        one.put("a", b"1")
        one.commit()
        other.put("b", b"2")
        other.commit()
        assert one.get("b") == b"2" and other.get("a") == b"1"
        one.put("c", b"3")
        assert one.get("c") == b"3" and other.get("c") is None


def test_a_file_that_is_no_database_is_begun_anew_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "h.sqlite").write_bytes(b"no database, but long enough to be taken for one" * 30)
    with closing(HashStore(tmp_path / "h.sqlite")) as store:
        store.put("a", b"1")
        assert store.get("a") == b"1"
    assert "is damaged" in caplog.text


def test_a_place_that_cannot_be_used_is_one_sentence(tmp_path: Path):
    (tmp_path / "h.sqlite").mkdir()
    with pytest.raises(StorageError, match=r"h\.sqlite cannot be used .* search\.store"):
        HashStore(tmp_path / "h.sqlite")


def test_the_key_changes_with_the_file_and_with_any_file_of_a_folder(tmp_path: Path):
    file = tmp_path / "frames" / "1.jpg"
    file.parent.mkdir()
    keys = []
    for size, changed in ((1, 5), (1, 6), (2, 6)):
        file.write_bytes(b"x" * size)
        os.utime(file, (changed, changed))
        keys += [key_of("k", file), key_of("k", file.parent)]
    (file.parent / "2.jpg").write_bytes(b"")
    os.utime(file.parent / "2.jpg", (6, 6))
    keys += [key_of("k", file.parent), key_of("other", file), None]
    assert len(set(keys)) == len(keys) and key_of("k", tmp_path / "none") is None
