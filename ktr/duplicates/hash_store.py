"""Hashes of files on disk, so that a file is hashed once for as long as it is as it was."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ktr.errors import StorageError

log = logging.getLogger(__name__)

TABLE = "CREATE TABLE IF NOT EXISTS hashes (kind TEXT, path TEXT, state TEXT, hash BLOB, PRIMARY KEY (kind, path))"
LOCK_S = 60.0


class HashStore:
    """A database with one hash of each kind and file, and the state of the file that it is of (``state_of``).

    What was put is there also when the process is killed. Several processes may use the file at once. One that is no
    database is begun anew. Raises ``StorageError`` where it cannot be read or written.
    """

    def __init__(self, file: Path | str) -> None:
        self.file = Path(file).expanduser()
        with self._faults():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = self._open()
            except sqlite3.OperationalError:  # it is locked, say, and no less of a database
                raise
            except sqlite3.DatabaseError as error:
                log.warning("%s is damaged (%s); it is begun anew", self.file, error)
                self.file.unlink()
                self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.file, timeout=LOCK_S, isolation_level=None)  # each statement is committed
        database.execute("PRAGMA synchronous = OFF")  # a machine that loses power may cost the store, and no result
        database.execute(TABLE)
        return database

    def get(self, kind: str, path: Path, state: str) -> bytes | None:
        """The hash of a file in this state; None where there is none."""
        with self._faults():
            query = "SELECT hash FROM hashes WHERE kind = ? AND path = ? AND state = ?"
            found = self._database.execute(query, (kind, str(path), state)).fetchone()
        return None if found is None else found[0]

    def put(self, kind: str, path: Path, state: str, hash: bytes) -> None:
        with self._faults():
            self._database.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)", (kind, str(path), state, hash))

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            remedy = "remove it, or give search.store=… another place"
            raise StorageError(f"{self.file} cannot be used ({error}); {remedy}") from error


def state_of(path: Path) -> str:
    """Number, size and time of change of a file, or of the frames in a folder. Raises OSError where it is not there."""
    states = [os.stat(file) for file in (path.iterdir() if path.is_dir() else [path])]
    size, changed = sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)
    return f"{len(states)} {size} {changed}"
