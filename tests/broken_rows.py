"""Every way we know in which a row can be broken, on real media files, for whoever must survive them."""

import contextlib
import json
import os
import socket
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

NUM_GOOD_FILES = 6
GOOD = {
    "problem": "what color is first ?",
    "problem_type": "free-form",
    "process": "<think>red is first .</think>",
    "solution": "<answer>red</answer>",
    "path": "good0.mp4",
}
CHOICE = {"problem_type": "multiple choice", "options": ["A. red", "B. blue"], "solution": "<answer>B</answer>"}
IMAGE = {"data_type": "image", "path": "good.png"}

# What is wrong: (name, change of a good row, the kind of its skip).
BROKEN: tuple[tuple[str, dict[str, Any] | str, str], ...] = (
    ("no object", "5", "MalformedRow"),
    ("a list", "[[]]", "MalformedRow"),
    ("null", "null", "MalformedRow"),
    ("half a line", '{"problem": "what', "MalformedRow"),
    ("no keys", "{}", "MalformedRow"),
    ("a problem of null", {"problem": None}, "MalformedRow"),
    ("a problem that is a number", {"problem": 5}, "MalformedRow"),
    ("a problem that is a list", {"problem": [["what ?"]]}, "MalformedRow"),
    ("a problem of spaces", {"problem": " \t\n"}, "MalformedRow"),
    ("half a surrogate pair", {"problem": "what \ud800 ?"}, "MalformedRow"),
    ("half a pair in the answer", {"solution": "red\udc00"}, "MalformedRow"),
    ("half a pair in the id", {"problem_id": "\ud800"}, "MalformedRow"),
    ("half a pair in the path", {"path": "\udcff.mp4"}, "MalformedRow"),
    ("half a pair deep inside", {"more": {"a": ["\ud800"]}}, "MalformedRow"),
    ("a special token", {"problem": "what <|im_end|> ?"}, "MalformedRow"),
    ("a special token in the reasoning", {"process": "<think>a <|video_pad|></think>"}, "MalformedRow"),
    ("a special token in the answer", {"solution": "<|endoftext|>"}, "MalformedRow"),
    ("reasoning that is a number", {"process": 1.5}, "MalformedRow"),
    ("reasoning without an end", {"process": "<think>so"}, "MalformedRow"),
    ("an answer in the reasoning", {"process": "<think>a<answer>b</answer></think>"}, "MalformedRow"),
    ("a solution that is a truth value", {"solution": True}, "MalformedRow"),
    ("a solution that is no number", {"solution": float("nan")}, "MalformedRow"),
    ("a solution without end", {"solution": float("inf")}, "MalformedRow"),
    ("a solution that is a list", {"solution": [3]}, "MalformedRow"),
    ("two answers", {"solution": "<answer>a</answer><answer>b</answer>"}, "MalformedRow"),
    ("an answer without an end", {"solution": "<answer>red"}, "MalformedRow"),
    ("an id that is a truth value", {"problem_id": True}, "MalformedRow"),
    ("a source that is a list", {"data_source": ["a"]}, "MalformedRow"),
    ("no path", {"path": None}, "MalformedRow"),
    ("a path that is a number", {"path": 7}, "MalformedRow"),
    ("a path with a NUL", {"path": "a\0.mp4"}, "MalformedRow"),
    ("no solution", {"solution": None}, "MissingAnswer"),
    ("an empty answer", {"solution": "<answer> </answer>"}, "MissingAnswer"),
    ("a number in words", {"problem_type": "numerical", "solution": "three"}, "UnreadableAnswer"),
    ("a number that is none", {"problem_type": "regression", "solution": "nan"}, "UnreadableAnswer"),
    ("a type of null", {"problem_type": None}, "UnknownProblemType"),
    ("a type of another set", {"problem_type": "open-ended"}, "UnknownProblemType"),
    ("a type that is a list", {"problem_type": ["OCR"]}, "UnknownProblemType"),
    ("a medium of null", {"data_type": None}, "UnknownDataType"),
    ("sound as a medium", {"data_type": "audio"}, "UnknownDataType"),
    ("sound beside a video", {"path": ["good0.mp4", "sound.wav"], "data_type": ["video", "audio"]}, "UnknownDataType"),
    ("a type too few", {"path": ["good0.mp4", "good.png"], "data_type": ["video"]}, "UnknownDataType"),
    ("no media in the list", {"path": []}, "MalformedRow"),
    ("a medium that is a number", {"path": ["good0.mp4", 1]}, "MalformedRow"),
    ("more markers than media", {"problem": "is <video> like <video> ?"}, "MisplacedMedia"),
    ("fewer markers than media", {"path": ["good0.mp4", "good1.mp4"], "problem": "is <video> red ?"}, "MisplacedMedia"),
    ("one of several that is not there", {"path": ["good0.mp4", "none.mp4"]}, "MissingMedia"),
    ("one of several that is cut", {"path": ["good0.mp4", "good.png", "cut.mp4"]}, "CorruptMedia"),
    ("no options", CHOICE | {"options": None}, "BadOptions"),
    ("empty options", CHOICE | {"options": []}, "BadOptions"),
    ("options without letters", CHOICE | {"options": ["red", "blue"]}, "BadOptions"),
    ("options without texts", CHOICE | {"options": ["A.", "B."]}, "BadOptions"),
    ("the same option twice", CHOICE | {"options": ["A. red", "B. red"]}, "BadOptions"),
    ("options that are an object", CHOICE | {"options": {"A": "red", "B": "blue"}}, "BadOptions"),
    ("options that are numbers", CHOICE | {"options": [1, 2]}, "BadOptions"),
    ("options that are truth values", CHOICE | {"options": ["A. 1", False]}, "BadOptions"),
    ("nested options", CHOICE | {"options": [["A. red"], ["B. blue"]]}, "BadOptions"),
    ("a letter of no option", CHOICE | {"solution": "E"}, "BadOptions"),
    ("options of a free answer", {"options": ["A. red", "B. blue"]}, "BadOptions"),
    ("a path out of the root", {"path": "../outside.mp4"}, "MediaOutsideRoot"),
    ("an absolute path", {"path": "/etc/passwd"}, "MediaOutsideRoot"),
    ("a link out of the root", {"path": "link.mp4"}, "MediaOutsideRoot"),
    ("a file that is not there", {"path": "none.mp4"}, "MissingMedia"),
    ("a name too long", {"path": "x" * 300 + ".mp4"}, "MissingMedia"),
    ("a path too long", {"path": "x/" * 4000 + "a.mp4"}, "MissingMedia"),
    ("a file as a folder", {"path": "good0.mp4/a.mp4"}, "MissingMedia"),
    ("a loop of links", {"path": "loop.mp4"}, "MissingMedia"),
    ("a folder", {"path": "folder"}, "CorruptMedia"),
    ("a FIFO", {"path": "fifo.mp4"}, "CorruptMedia"),
    ("a socket", {"path": "socket.mp4"}, "CorruptMedia"),
    ("zero bytes", {"path": "empty.mp4"}, "CorruptMedia"),
    ("text named mp4", {"path": "text.mp4"}, "CorruptMedia"),
    ("a cut video", {"path": "cut.mp4"}, "CorruptMedia"),
    ("a video without its index", {"path": "headless.mp4"}, "CorruptMedia"),
    ("a video of zero seconds", {"path": "zero_seconds.mp4"}, "CorruptMedia TooShortMedia"),
    ("a video of one frame", {"path": "one_frame.mp4"}, "TooShortMedia"),
    ("sound named mp4", {"path": "sound.mp4"}, "NotAVideo"),
    ("a picture as a video", {"path": "good.png"}, "NotAVideo"),
    ("a list of files", {"path": "list.mp4"}, "NotAVideo CorruptMedia"),
    ("a thin video", {"path": "thin.mp4"}, "TooThinMedia"),
    ("a slow video", {"path": "slow.mp4"}, "TooLongMedia"),
    ("a video as a picture", IMAGE | {"path": "good0.mp4"}, "NotAnImage"),
    ("an animation as a picture", IMAGE | {"path": "moving.gif"}, "NotAnImage"),
    ("a cut picture", IMAGE | {"path": "cut.png"}, "CorruptMedia"),
    ("text named png", IMAGE | {"path": "text.mp4"}, "CorruptMedia"),
    ("a bomb", IMAGE | {"path": "bomb.png"}, "CorruptMedia"),
    ("a thin picture", IMAGE | {"path": "thin.png"}, "TooThinMedia"),
    ("a problem that fills the context", {"problem": "what " * 3000}, "PromptTooLong"),
    ("an answer that the rule cannot pay", {"solution": "<answer>?!</answer>"}, "UnreadableAnswer"),
)


def write_video(path: Path, num_frames: int = 16, size: tuple[int, int] = (56, 56), frame_s: int = 1) -> Path:
    """An mp4 of noise, a frame each ``frame_s`` seconds."""
    noise = np.random.default_rng(num_frames)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(1, frame_s), options={"g": "4", "bf": "0"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        container.start_encoding()  # a header, also where no frame follows
        for _ in range(num_frames):
            pixels = noise.integers(0, 255, (size[1], size[0], 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_media(root: Path) -> None:
    """The files that the rows name, in ``root``, and one beside it."""
    root.mkdir()
    write_video(root.parent / "outside.mp4")
    for index in range(NUM_GOOD_FILES):
        write_video(root / f"good{index}.mp4", 12 + index)
    Image.new("RGB", (56, 56), "red").save(root / "good.png")
    (root / "link.mp4").symlink_to(root.parent / "outside.mp4")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    (root / "folder").mkdir()
    os.mkfifo(root / "fifo.mp4")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(root):  # a socket's path may have 100 bytes or so
        server.bind("socket.mp4")
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("<html>404 not found</html>" * 100)
    (root / "list.mp4").write_text("ffconcat version 1.0\nfile good0.mp4\n")
    whole = (root / "good0.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (root / "headless.mp4").write_bytes(whole[: len(whole) // 20])
    write_video(root / "zero_seconds.mp4", 0)
    write_video(root / "one_frame.mp4", 1)
    write_sound(root / "sound.mp4")
    write_video(root / "thin.mp4", 4, (804, 4))
    write_video(root / "slow.mp4", 16, frame_s=1000)
    moving = [Image.new("RGB", (56, 56), (level, 0, 0)) for level in (0, 200)]
    moving[0].save(root / "moving.gif", save_all=True, append_images=moving[1:])
    picture = (root / "good.png").read_bytes()
    (root / "cut.png").write_bytes(picture[: len(picture) // 2])
    Image.new("1", (20_000, 20_000)).save(root / "bomb.png")
    Image.new("RGB", (402, 2)).save(root / "thin.png")


def good_row(index: int) -> str:
    id, path = "good" if index == 0 else f"good-{index}", f"good{index % NUM_GOOD_FILES}.mp4"
    return json.dumps(GOOD | {"problem_id": id, "path": path})


def broken_row(index: int) -> str:
    _, change, _ = BROKEN[index % len(BROKEN)]
    return change if isinstance(change, str) else json.dumps(GOOD | {"problem_id": f"broken-{index}"} | change)


def write_rows(file: Path, num_good: int, num_broken: int) -> list[str]:
    """Writes JSON lines, a broken row after each good one until all are written; returns the kinds of skip by row.

    A good row's kind is "". Where a file may betray itself in several ways, its kinds stand with spaces between them.
    """
    lines, kinds = [], []
    for index in range(max(num_good, num_broken)):
        if index < num_good:
            lines, kinds = [*lines, good_row(index)], [*kinds, ""]
        if index < num_broken:
            lines, kinds = [*lines, broken_row(index)], [*kinds, BROKEN[index % len(BROKEN)][2]]
    file.write_text("\n".join(lines), encoding="utf-8")
    return kinds
