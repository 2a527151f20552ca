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
from dataclasses import dataclass
from typing import IO, Any

import av
import decord
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.stream import Disposition

VERSION = 2  # of the frames that files give: another number where some change, for none that were kept to come back
ALARM_GRACE_S = 5
UPRIGHT = (1, 0, 0, 1)
STILL_BRANDS = ("avif", "mif1", "miaf", "heic", "heix", "heim", "heis")  # pictures in the container of MP4
# They lead to other files, or out of here.
LISTS = ("concat", "hls", "dash", "imf", "webm_dash_manifest", "sdp", "rtsp")
# Where decord may find its frames, and by codec the filter that leaves only packets at which decoding can begin.
SOUGHT_CONTAINERS = ("mov", "matroska")
SOUGHT_CODECS = {
    "h264": "filter_units=pass_types=5",
    "hevc": "filter_units=pass_types=16-21",
    **dict.fromkeys(("mjpeg", "vp8", "vp9"), "null"),
}
# What decoders raise at damaged files: not all of it is theirs.
UNREADABLE = (
    av.FFmpegError, ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


class Rejected(Exception):
    """A file that cannot be used: ``kind`` names an error class of ``ktr.errors``."""

    def __init__(self, kind: str, reason: str):
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True)
class Footage:
    """What a player shows of a file, whoever decodes it.

    ``seconds`` are the times of its frames in the order in which they are shown, from 0 on. ``matrix`` (a, b, c, d)
    turns and mirrors a frame: x' = a·x + c·y, y' = b·x + d·y. ``pixel_aspect`` is the width of a pixel by its height.
    ``is_plain``: every frame in the file is shown, and as it lies there.
    """

    seconds: np.ndarray
    fps: float
    matrix: tuple[int, int, int, int]
    pixel_aspect: float
    is_plain: bool

    @property
    def is_constant_rate(self) -> bool:
        """Whether ``fps`` says it all: no frame is more than a quarter of a frame away from its place at that rate."""
        even = np.arange(len(self.seconds)) / self.fps
        return bool(np.abs(self.seconds - even).max() <= max(0.25, 0.002 * len(even)) / self.fps)


def uniform_frame_indices(total_num_frames: int, num_frames: int) -> list[int]:
    """Indices of ``num_frames`` frames spread evenly from the first frame to the last, both included.

    A video with fewer frames gives all of them. The count is always even, because a temporal patch is made of two
    frames: an odd one is completed by repeating the last frame.
    """
    count = min(num_frames, total_num_frames)
    indices = np.linspace(0, total_num_frames - 1, count).round().astype(int).tolist()
    return indices + indices[-1:] * (count % 2)


def timed_frame_indices(seconds: np.ndarray, num_frames: int) -> list[int]:
    """The frames that are on show at ``num_frames`` times, spread evenly from the first frame to the last.

    As many as by index; a frame that stays on show for long is repeated.
    """
    count = min(num_frames, len(seconds))
    times = np.linspace(seconds[0], seconds[-1], count)
    indices = (np.searchsorted(seconds, times + 1e-6, side="right") - 1).tolist()
    return indices + indices[-1:] * (count % 2)


def within(seconds: np.ndarray, start: float, end: float) -> slice:
    """The frames that are on show from ``start`` to ``end``; all where it ends at infinity and starts at 0."""
    first = int(np.searchsorted(seconds, start + 1e-6, side="right")) - 1 if start > 0 else 0
    last = int(np.searchsorted(seconds, end + 1e-6, side="right"))
    if (start > 0 and start > seconds[-1] + 1) or end < start:
        raise Rejected("TooShortMedia", f"it has no frame from second {start:g} to {end:g}: it ends at {seconds[-1]:g}")
    return slice(max(first, 0), max(last, first + 1))


def choose(seconds: np.ndarray, num_frames: int, min_frames: int, sampling: str) -> list[int]:
    """Places among the frames of these times."""
    if len(seconds) < min_frames:
        raise Rejected("TooShortMedia", f"it has {len(seconds)} frames, at least {min_frames} are needed")
    if sampling == "time":
        return timed_frame_indices(seconds, num_frames)
    return uniform_frame_indices(len(seconds), num_frames)


def video_stream(container: InputContainer) -> av.VideoStream:
    name, brand = container.format.name, container.metadata.get("major_brand", "").strip()
    if name.endswith("_pipe") or name in ("image2", "ico") or brand in STILL_BRANDS:
        raise Rejected("NotAVideo", f"it is a picture ({brand or name.removesuffix('_pipe')}), not a video")
    if name in LISTS:
        raise Rejected("NotAVideo", f"it is a list of other files ({name}), not a video")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover of an audio file is no video
            return stream
    if container.streams.audio or container.streams.subtitles:
        raise Rejected("NotAVideo", f"it has no video stream: it is sound or text ({name})")
    raise Rejected("CorruptMedia", "its header is cut off or damaged: it names no readable stream")


def inspect(path: str) -> Footage:
    """What the file promises to show; rejects one that was cut off.

    No decoder can be trusted with that: all of them just give fewer frames for some cut files, without an error. An
    index that reaches beyond the file (MP4, MOV) or streams that all end before the file's duration (Matroska, WebM)
    betray the cut; what MPEG-TS leaves is a whole, shorter video.
    """
    with av.open(path) as container:
        stream = video_stream(container)
        index_end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        if index_end > os.path.getsize(path):
            reason = f"it is cut off: its index reaches to byte {index_end}, it has {os.path.getsize(path)}"
            raise Rejected("CorruptMedia", reason)
        if "matroska" in container.format.name and container.duration:
            check_duration(path, container.duration / av.time_base)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if not 0 < rate < float("inf"):
            raise Rejected("CorruptMedia", "it has no frame rate")
        seconds, is_whole = shown_seconds(container, stream)
        if len(seconds) < stream.frames and "mov" not in container.format.name:  # there edit lists leave frames out
            raise Rejected("CorruptMedia", f"it has {len(seconds)} of the {stream.frames} frames that it promises")
        aspect = float(stream.sample_aspect_ratio or 1)
    matrix = display_matrix(path)
    return Footage(seconds, rate, matrix, aspect, is_whole and matrix == UPRIGHT)


def check_duration(path: str, promised_s: float) -> None:
    with av.open(path) as container:
        ends_s = [
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in container.demux()
            if packet.pts is not None
        ]
    if max(ends_s, default=0.0) < promised_s - max(0.5, 0.02 * promised_s):
        raise Rejected("CorruptMedia", f"it is cut off after {max(ends_s, default=0.0):.1f} of its {promised_s:.1f} s")


def shown_seconds(container: InputContainer, stream: av.VideoStream) -> tuple[np.ndarray, bool]:
    """The times of the frames that are shown, in order and from 0 on, and whether those are all frames of the file.

    An index of even steps (MP4, MOV) says it at once; else the packets do. Where those have no times, as in AVI with
    frames out of order, the frame rate does.
    """
    steps = np.diff([entry.timestamp for entry in stream.index_entries])
    is_whole = stream.frames == len(steps) + 1 > 1  # without fragments, which an index does not list
    is_plain = "mov" in container.format.name and not any(entry.is_discard for entry in stream.index_entries)
    if is_whole and is_plain and (steps == steps[0]).all():
        return np.arange(len(steps) + 1) * float(steps[0] * stream.time_base), True
    packets = [packet for packet in container.demux(stream) if packet.size > 0]
    # A packet of VP8 may be a frame that is not shown and only referred to; its first byte says so.
    is_vp8 = stream.codec.canonical_name == "vp8"
    shown = [packet for packet in packets if not packet.is_discard and (not is_vp8 or memoryview(packet)[0] & 16)]
    pts = [packet.pts for packet in shown if packet.pts is not None]
    is_whole = len(shown) == len(packets)
    if len(pts) < len(shown):
        return np.arange(len(shown)) / float(stream.average_rate or stream.guessed_rate or 1), is_whole
    times = np.array(sorted(pts), dtype=np.float64) * float(stream.time_base or 1)
    return times - times[:1], is_whole


def display_matrix(path: str) -> tuple[int, int, int, int]:
    """How a player turns and mirrors the frames. Raises ``Rejected`` where they would lie at a slant."""
    with av.open(path) as container:
        frame = next(container.decode(video_stream(container)), None)
        data = None if frame is None else frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return UPRIGHT
        a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    scale = max(abs(a), abs(b), abs(c), abs(d), 1)
    matrix = (round(a / scale), round(b / scale), round(c / scale), round(d / scale))
    if (
        np.abs(np.array([a, b, c, d]) / scale - matrix).max() > 0.01
        or abs(np.linalg.det([matrix[:2], matrix[2:]])) != 1
    ):
        raise Rejected("CorruptMedia", f"a player turns it by no multiple of 90 degrees (matrix {a}, {b}, {c}, {d})")
    return matrix


def present(frames_FHWC: np.ndarray, footage: Footage) -> np.ndarray:
    """Frames as a player shows them: pixels made square, then turned and mirrored."""
    height, width = frames_FHWC.shape[1:3]
    if footage.pixel_aspect != 1:
        wide = footage.pixel_aspect <= 4  # beyond, frames would only take memory
        width = max(1, round(width * footage.pixel_aspect)) if wide else width
        height = height if wide else max(1, round(height / footage.pixel_aspect))
        resized = [
            av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(width, height).to_ndarray()
            for frame in frames_FHWC
        ]
        frames_FHWC = np.stack(resized)
    a, b, c, d = footage.matrix
    if a == 0:
        frames_FHWC, a, d = frames_FHWC.swapaxes(1, 2), c, b
    return frames_FHWC[:, :: 1 if d > 0 else -1, :: 1 if a > 0 else -1]


def decode_with_decord(path: str, indices: list[int], footage: Footage) -> np.ndarray:
    if not footage.is_plain:
        reason = (
            "decord does not show it as players do (edit list, rotation, hidden frames): add pyav to video.backends"
        )
        raise Rejected("CorruptMedia", reason)
    try:
        reader = decord.VideoReader(path, num_threads=1)
        if len(reader) != len(footage.seconds):
            reason = f"decord finds {len(reader)} of the {len(footage.seconds)} frames that it promises"
            raise Rejected("CorruptMedia", reason)
        if not jumps_land(path, set(reader.get_key_indices())):
            raise Rejected("CorruptMedia", "decord would give other frames than asked for: add pyav to video.backends")
        return reader.get_batch(indices).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        raise Rejected("CorruptMedia", f"decord: {str(error).strip().splitlines()[0]}") from None


def jumps_land(path: str, keys: set[int]) -> bool:
    """Whether decord finds the frames that it is asked for, which it looks for from its ``keys`` on.

    Elsewhere it gives others without an error. It takes a key's place in the file for its place among the frames that
    are shown, which an open group of pictures moves; it counts frames from a key on that no decoder gives where one
    cannot begin there, as with intra refresh; and it seeks by time, which misses in other containers, in fragments, and
    where two frames have one time.
    """
    with av.open(path) as container:
        stream, name = video_stream(container), container.format.name.split(",")[0]
        if name not in SOUGHT_CONTAINERS or stream.codec.canonical_name not in SOUGHT_CODECS:
            return False
        starts = BitStreamFilterContext(SOUGHT_CODECS[stream.codec.canonical_name], stream)
        pts: list[int | None] = []
        for packet in container.demux(stream):
            if packet.size > 0:
                pts.append(packet.pts)
                if len(pts) - 1 in keys and not starts.filter(packet):
                    return False
        if name == "mov" and stream.frames != len(pts):  # it is in fragments
            return False
    times, places = np.array(pts, dtype=np.float64), sorted(keys)  # NaN where a frame has no time
    shown = np.argsort(times)
    return 0 in keys and bool((np.diff(times[shown]) > 0).all() and (shown[places] == places).all())


def decode_with_pyav(path: str, indices: list[int], footage: Footage) -> np.ndarray:
    wanted, kept, num_decoded = set(indices), {}, 0
    with av.open(path) as container:
        stream = video_stream(container)
        for frame in container.decode(stream):
            if num_decoded in wanted:
                kept[num_decoded] = frame.to_ndarray(format="rgb24", width=stream.width, height=stream.height)
            num_decoded += 1
    if num_decoded < len(footage.seconds):  # those at the start, say, of a file that begins in a group of pictures
        reason = f"PyAV decodes {num_decoded} of the {len(footage.seconds)} frames that it promises"
        raise Rejected("CorruptMedia", reason)
    frames = [kept[index] for index in indices if index in kept]
    return np.stack(frames) if frames else np.empty(0)


BACKENDS = {"decord": decode_with_decord, "pyav": decode_with_pyav}


def decode(
    path: str, num_frames: int, min_frames: int, sampling: str, backends: Sequence[str], start: float, end: float
) -> tuple[dict[str, Any], np.ndarray]:
    """Decodes with the first backend that gives all that was asked for; the last one's verdict stands."""
    try:
        footage = inspect(path)
    except UNREADABLE as error:
        raise Rejected("CorruptMedia", f"PyAV: {error}") from None
    clip = within(footage.seconds, start, end)
    seconds = footage.seconds[clip] - footage.seconds[clip.start]
    places = choose(seconds, num_frames, min_frames, sampling)
    indices = [clip.start + place for place in places]
    verdict = Rejected("CorruptMedia", "no backend was asked")
    for backend in backends:
        try:
            frames_FHWC = BACKENDS[backend](path, indices, footage)
            check_complete(frames_FHWC, indices, backend)
            frames_FHWC = np.ascontiguousarray(present(frames_FHWC, footage))
        except Rejected as error:
            verdict = error
        except UNREADABLE as error:
            verdict = Rejected("CorruptMedia", f"{backend}: {error}")
        else:
            header = {
                "shape": list(frames_FHWC.shape),
                "indices": places,
                "seconds": seconds[places].tolist(),
                "fps": footage.fps,
                "total": len(seconds),
                "is_constant_rate": footage.is_constant_rate,
            }
            return header, frames_FHWC
    raise verdict


def check_complete(frames_FHWC: np.ndarray, indices: list[int], backend: str) -> None:
    if len(frames_FHWC) != len(indices):
        raise Rejected("CorruptMedia", f"{backend} gave {len(frames_FHWC)} frames where {len(indices)} were asked for")


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
