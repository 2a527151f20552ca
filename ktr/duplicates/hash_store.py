"""Hashes of files on disk, so that a file is hashed once: by its path, size and time of change."""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ktr.errors import StorageError

log = logging.getLogger(__name__)

TABLE = "CREATE TABLE IF NOT EXISTS hashes (key TEXT PRIMARY KEY, hash BLOB NOT NULL, used REAL NOT NULL)"
SECONDS_BETWEEN_COMMITS = 5.0
LOCK_S = 60.0
SPARE = 0.1  # a full store is emptied so far that it need not be for a while


class HashStore:
    """A database of at most ``max_hashes`` hashes; those used least recently go first.

    It is one file, which several processes may use at once. One that is no database is begun anew. What was hashed up
    to a few seconds before a process was killed is there. Raises ``StorageError`` where it cannot be read or written.
    """

    def __init__(self, file: Path | str, max_hashes: int = 500_000) -> None:
        self.file, self.max_hashes = Path(file).expanduser(), max_hashes
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._new: dict[str, bytes] = {}
        self._used: set[str] = set()
        self._committed = time.monotonic()
        with self._faults():
            try:
                self._database = self._open()
            except sqlite3.OperationalError:  # it is locked, say, and no less of a database
                raise
            except sqlite3.DatabaseError as error:
                log.warning("%s is damaged (%s); it is begun anew", self.file, error)
                self.file.unlink()
                self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.file, timeout=LOCK_S)
        database.execute(TABLE)
        return database

    def get(self, key: str) -> bytes | None:
        """The hash under a key, and None where there is none."""
        if key in self._new:
            return self._new[key]
        with self._faults():
            found = self._database.execute("SELECT hash FROM hashes WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        self._used.add(key)
        self._commit_now_and_then()
        return found[0]

    def put(self, key: str, hash: bytes) -> None:
        self._new[key] = hash
        self._commit_now_and_then()

    def commit(self) -> None:
        """Write what is new, and what was used: at once, so that no other process waits for long."""
        now = time.time()
        with self._faults(), self._database as database:
            database.executemany("UPDATE hashes SET used = ? WHERE key = ?", [(now, key) for key in self._used])
            rows = [(key, hash, now) for key, hash in self._new.items()]
            database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)
        self._used.clear()
        self._new.clear()
        self._committed = time.monotonic()

    def close(self) -> None:
        """Commit, and drop what is too much."""
        self.commit()
        with self._faults(), self._database as database:
            surplus = database.execute("SELECT COUNT(*) FROM hashes").fetchone()[0] - self.max_hashes
            if surplus > 0:
                oldest = "SELECT key FROM hashes ORDER BY used, rowid LIMIT ?"
                database.execute(
                    f"DELETE FROM hashes WHERE key IN ({oldest})", (surplus + int(SPARE * self.max_hashes),)
                )
        self._database.close()

    def _commit_now_and_then(self) -> None:
        if time.monotonic() - self._committed > SECONDS_BETWEEN_COMMITS:
            self.commit()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = "remove it, or give search.store=… another place"
            raise StorageError(f"{self.file} cannot be used ({error}); {remedy}") from error


def key_of(kind: str, path: Path) -> str | None:
    """Of a ``kind`` of hash of a file as it is now, or of a folder of frames; None where it cannot be looked at."""
    try:
        states = [os.stat(file) for file in (path.iterdir() if path.is_dir() else [path])]
    except OSError:
        return None
    size, changed = sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)
    return f"{kind} {os.path.abspath(path)} {len(states)} {size} {changed}"
