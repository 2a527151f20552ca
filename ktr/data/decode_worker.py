"""The process that decodes videos for ``ktr.data.video``, which can kill it when a file makes a decoder hang.

It runs as a plain script that imports neither torch nor ktr, so that it starts in a fraction of a second, and it ends
with its parent: at the end of file on stdin, or by an alarm when stuck in a decoder. Every message on its pipes is a
four-byte big-endian length and that many bytes of JSON; a decoded video is followed by the raw bytes of its frames.
"""

import json
import os
import signal
import struct
import sys
from collections.abc import Sequence
from typing import IO, Any

import av
import decord
import numpy as np
from av.container import InputContainer
from av.stream import Disposition

ALARM_GRACE_S = 5


class Rejected(Exception):
    """A file that cannot be used: ``kind`` names an error class of ``ktr.errors``."""

    def __init__(self, kind: str, reason: str):
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


def uniform_frame_indices(total_num_frames: int, num_frames: int) -> list[int]:
    """Indices of ``num_frames`` frames spread evenly from the first frame to the last, both included.

    A video with fewer frames gives all of them. The count is always even, because a temporal patch is made of two
    frames: an odd one is completed by repeating the last frame.
    """
    count = min(num_frames, total_num_frames)
    indices = np.linspace(0, total_num_frames - 1, count).round().astype(int).tolist()
    return indices + indices[-1:] * (count % 2)


def choose_frames(total_num_frames: int, num_frames: int, min_frames: int) -> list[int]:
    if total_num_frames < min_frames:
        raise Rejected("TooShortMedia", f"it has {total_num_frames} frames, at least {min_frames} are needed")
    return uniform_frame_indices(total_num_frames, num_frames)


def video_stream(container: InputContainer) -> av.VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover of an audio file is no video
            return stream
    if container.streams.audio or container.streams.subtitles:
        raise Rejected("NotAVideo", "it has no video stream")
    raise Rejected("CorruptMedia", "its header is cut off or damaged: it names no readable stream")


def promised_frames(path: str) -> int:
    """How many frames the container promises, 0 where it does not say; rejects a file that was cut off.

    No decoder can be trusted with that: all of them just give fewer frames for some cut files, without an error. An
    index that reaches beyond the file (MP4, MOV) or streams that all end before the file's duration (Matroska, WebM)
    betray the cut; what MPEG-TS leaves is a whole, shorter video.
    """
    try:
        with av.open(path) as container:
            stream = video_stream(container)
            index_end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
            if index_end > os.path.getsize(path):
                reason = f"it is cut off: its index reaches to byte {index_end}, it has {os.path.getsize(path)}"
                raise Rejected("CorruptMedia", reason)
            if "matroska" in container.format.name and container.duration:
                promised_s = container.duration / av.time_base
                ends_s = [
                    float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    for packet in container.demux()
                    if packet.pts is not None
                ]
                if max(ends_s, default=0.0) < promised_s - max(0.5, 0.02 * promised_s):
                    reason = f"it is cut off after {max(ends_s, default=0.0):.1f} of its {promised_s:.1f} s"
                    raise Rejected("CorruptMedia", reason)
            if "mov" in container.format.name:  # not the header's count, which edit lists may shorten
                return sum(not entry.is_discard for entry in stream.index_entries)
            return stream.frames
    except (av.FFmpegError, ValueError) as error:
        raise Rejected("CorruptMedia", f"PyAV: {error}") from None


def decode_with_decord(path: str, num_frames: int, min_frames: int) -> tuple[dict[str, Any], np.ndarray]:
    try:
        reader = decord.VideoReader(path, num_threads=1)
        total = len(reader)
        indices = choose_frames(total, num_frames, min_frames)
        frames_FHWC = reader.get_batch(indices).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        raise Rejected("CorruptMedia", f"decord: {str(error).strip().splitlines()[0]}") from None
    return {"indices": indices, "fps": float(reader.get_avg_fps()), "total": total}, frames_FHWC


def decode_with_pyav(path: str, num_frames: int, min_frames: int) -> tuple[dict[str, Any], np.ndarray]:
    try:
        with av.open(path) as container:
            stream = video_stream(container)
            total = sum(packet.size > 0 and not packet.is_discard for packet in container.demux(stream))
            indices = choose_frames(total, num_frames, min_frames)
            rate = stream.average_rate or stream.guessed_rate
        with av.open(path) as container:
            stream = video_stream(container)
            kept = {
                index: frame.to_ndarray(format="rgb24", width=stream.width, height=stream.height)
                for index, frame in enumerate(container.decode(stream))
                if index in set(indices)
            }
    except (av.FFmpegError, ValueError) as error:
        raise Rejected("CorruptMedia", f"PyAV: {error}") from None
    frames = [kept[index] for index in indices if index in kept]
    return {"indices": indices, "fps": float(rate or 0), "total": total}, np.stack(frames) if frames else np.empty(0)


BACKENDS = {"decord": decode_with_decord, "pyav": decode_with_pyav}


def decode(path: str, num_frames: int, min_frames: int, backends: Sequence[str]) -> tuple[dict[str, Any], np.ndarray]:
    """Decodes with the first backend that gives all that was asked for; the last one's verdict stands."""
    promised = promised_frames(path)
    verdict = Rejected("CorruptMedia", "no backend was asked")
    for backend in backends:
        try:
            header, frames_FHWC = BACKENDS[backend](path, num_frames, min_frames)
            check_complete(header, frames_FHWC, promised, backend)
            return header | {"shape": list(frames_FHWC.shape)}, np.ascontiguousarray(frames_FHWC)
        except Rejected as error:
            verdict = error
    raise verdict


def check_complete(header: dict[str, Any], frames_FHWC: np.ndarray, promised: int, backend: str) -> None:
    asked = len(header["indices"])
    if header["total"] < promised:
        raise Rejected("CorruptMedia", f"{backend} finds {header['total']} of the {promised} frames that it promises")
    if len(frames_FHWC) != asked:
        raise Rejected("CorruptMedia", f"{backend} gave {len(frames_FHWC)} frames where {asked} were asked for")
    if not header["fps"] > 0:
        raise Rejected("CorruptMedia", "it has no frame rate")


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    prefix = stream.read(4)
    if len(prefix) < 4:
        return None
    return json.loads(stream.read(struct.unpack(">I", prefix)[0]))


def write_message(stream: IO[bytes], message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    stream.write(struct.pack(">I", len(body)) + body)


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answers requests until the parent closes the pipe."""
    write_message(replies, {"ready": True})
    replies.flush()
    while (request := read_message(requests)) is not None:
        # The parent kills a late worker; should the parent itself be dead by then, the alarm's default action does.
        signal.alarm(int(request.pop("timeout_s")) + ALARM_GRACE_S)
        try:
            header, frames_FHWC = decode(**request)
            write_message(replies, header)
            replies.write(frames_FHWC.data)
        except Rejected as error:
            write_message(replies, {"error": error.kind, "reason": error.reason})
        signal.alarm(0)
        replies.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    replies = os.fdopen(os.dup(1), "wb")
    # What the decoders print is noise (their verdict is in the reply) and must not end up among the replies; Python's
    # own tracebacks still show.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    av.logging.set_level(av.logging.PANIC)
    decord.logging.set_level(decord.logging.QUIET)
    serve(sys.stdin.buffer, replies)
