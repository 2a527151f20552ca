"""The file in which W&B keeps a part of an offline run: records in blocks of 32 KiB, as in LevelDB's logs."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILE_HEADER = 7
_BLOCK = 32 * 1024
_HEAD = struct.Struct("<IHB")  # checksum, length, kind
_WHOLE, _FIRST, _LAST = 1, 2, 4


def cut_history(file: Path, step: int) -> int | None:
    """Cut a part off where ``step`` or a later one begins, and return the last step that it keeps, if any.

    What it holds behind is of a branch that the run has left: the run went back to a checkpoint. A part that was sent,
    by an online run or by ``wandb sync``, stays as it is, for the server has it.
    """
    sent = not file.parent.name.startswith("offline-") or file.with_name(file.name + ".synced").exists()
    last = None
    for start, record in records(file.read_bytes()):
        if not record.HasField("history"):
            continue
        at = record.history.step.num
        if at >= step and not sent:
            with file.open("r+b") as opened:
                opened.truncate(start)
            break
        last = at
    return last


def records(data: bytes) -> Iterator[tuple[int, Any]]:
    """Where each record of a file starts, and the record as W&B's protobuf message; a torn end is left out."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    start, whole, position = 0, b"", _FILE_HEADER
    while position + _HEAD.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEAD.size:  # a block ends in zeros where no head fits
            position += left
            continue
        _, length, kind = _HEAD.unpack_from(data, position)
        begin, end = position + _HEAD.size, position + _HEAD.size + length
        if kind == 0 or end > len(data):
            return
        if kind in (_WHOLE, _FIRST):
            start, whole = position, b""
        whole, position = whole + data[begin:end], end
        if kind in (_WHOLE, _LAST):
            yield start, Record.FromString(whole)
