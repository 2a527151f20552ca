"""Pages that show completions token by token: coloured by signal and strength, each with its numbers, selected anew.

A case is one question with a column of completions for each policy that is shown. What a page draws is plain data,
which stands in the page and in the JSON file beside it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from ktr.analysis import palette
from ktr.analysis.filmstrip import Strip
from ktr.analysis.html import plain, webp_uri, write_json, write_page
from ktr.analysis.run_folder import signal_order
from ktr.analysis.shown_tokens import role_legend
from ktr.attribution.selection import TopRatio
from ktr.record.token_records import Record

QUESTION_KEYS = ("question", "problem", "options", "answer", "category", "problem_type", "media", "data_type")
# Of each token, but for its scores; a record that lacks one is shown without it.
TOKEN_KEYS = ("tokens", "logps", "view_logps", "entropies", "ranks", "gradient_norms", "roles", "scores", "selected")
COMPLETION_KEYS = ("completion", "text", "finish_reason", "reward", "rewards")
MAX_FRAME_AREA, MAX_STRIP_BYTES = 128 * 28 * 28, 2_500_000
QUALITIES = (80, 50, 25)


@dataclass(frozen=True)
class Case:
    """One question, what it shows, and by policy the records of its completions.

    ``paired``: the completions of all columns are the same ones, in the same order. ``first``, one a column, are those
    to show at once; the others are folded away. Without it all are shown.
    """

    columns: Mapping[str, Sequence[Record]]
    strips: tuple[Strip, ...] = ()
    paired: bool = False
    first: tuple[int, ...] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> Record:
        return next(iter(self.columns.values()))[0]

    def lines(self) -> list[tuple[int | None, ...]]:
        """Which completion of each column stands beside which."""
        orders = [range(len(records)) for records in self.columns.values()]
        if self.first is None:
            return list(zip_longest(*orders))
        rest = [[i for i in order if i != first] for order, first in zip(orders, self.first, strict=True)]
        return [self.first, *zip_longest(*rest)]


def write_pages(
    output: Path, cases: Sequence[Case], selection: Mapping[str, Any] | None, title: str
) -> tuple[Path, Path]:
    """A page of one case, or an index with a page of each case in a folder beside it; and JSON of the same.

    ``output`` is the .html file or the .json file: the other has its name. ``selection`` holds the settings of
    ``TopRatio`` where the tokens were selected so.
    """
    page, data = output.with_suffix(".html"), output.with_suffix(".json")
    if len(cases) == 1:
        shown = page_data(cases, selection, title)
        return _write_page(page, cases, shown), write_json(data, shown)
    entries = []
    for number, case in enumerate(cases, 1):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", str(case.asked["question"]))[:60]
        path = page.with_suffix("") / f"{number:03d}-{name}.html"
        shown = page_data([case], selection, f"{title}: {case.asked['question']}")
        _write_page(path, [case], shown, index=f"../{page.name}")
        write_json(path.with_suffix(".json"), shown)
        entries.append({"path": path.relative_to(page.parent).as_posix(), **shown["cases"][0]})
    firsts = [next((frame for strip in case.strips for frame in strip.frames_FHWC), None) for case in cases]
    thumbnails = [None if frame is None else webp_uri(_small(frame, 96), 60) for frame in firsts]
    write_page(page, "index.html", title=title, entries=list(zip(entries, thumbnails, strict=True)))
    return page, write_json(data, {"title": title, "pages": [entry["path"] for entry in entries]})


def write_cases(page: Path, cases: Sequence[Case], selection: Mapping[str, Any] | None, title: str) -> Path:
    """All cases on one page, and the JSON beside it."""
    shown = page_data(cases, selection, title)
    write_json(page.with_suffix(".json"), shown)
    return _write_page(page, cases, shown)


def page_data(cases: Sequence[Case], selection: Mapping[str, Any] | None, title: str) -> dict[str, Any]:
    """What a page shows, but for the frames: plain values.

    ``selection`` is None where the recorded sets are not what these settings select from the recorded scores: then
    nothing can be selected anew.
    """
    groups = [records for case in cases for records in case.columns.values()]
    signals = signal_order({name for records in groups for record in records for name in record["scores"]})
    if not signals or selection is None or not all(_selects(selection, records) for records in groups):
        selection = None
    return plain(
        {
            "title": title,
            "signals": palette.signal_colors(signals),
            "selection": selection,
            "cases": [_case_data(case) for case in cases],
        }
    )


def _case_data(case: Case) -> dict[str, Any]:
    columns = [
        {
            "title": title,
            "note": case.notes.get(title, ""),
            "completions": [
                {key: record[key] for key in (*COMPLETION_KEYS, *TOKEN_KEYS) if key in record}
                | {"ended": record["finish_reason"] == "stop"}
                for record in records
            ],
        }
        for title, records in case.columns.items()
    ]
    return {
        **{key: case.asked[key] for key in QUESTION_KEYS},
        "strips": [_strip_data(strip) for strip in case.strips],
        "paired": case.paired,
        "columns": columns,
    }


def _strip_data(strip: Strip) -> dict[str, Any]:
    seconds = [round(strip.seconds * frame, 3) for frame in range(len(strip.frames_FHWC))]
    return {"media": str(strip.file.path), "data_type": strip.file.kind, "frame_seconds": seconds}


def _selects(selection: Mapping[str, Any], records: Sequence[Record]) -> bool:
    """Whether the settings select, from the scores of a group's records, the sets that the records hold."""
    lengths = torch.tensor([len(record["tokens"]) for record in records])
    mask_GT = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    ended = torch.tensor([record["finish_reason"] == "stop" for record in records])
    eos_GT = (torch.arange(mask_GT.shape[1])[None] == lengths[:, None] - 1) & ended[:, None]
    select = TopRatio(**selection)
    for name in records[0]["scores"]:
        scores = [torch.tensor(record["scores"][name], dtype=torch.float32) for record in records]
        chosen_GT = select(torch.nn.utils.rnn.pad_sequence(scores, batch_first=True), mask_GT, eos_GT)
        recorded = [record["selected"].get(name) for record in records]
        if [row.nonzero().flatten().tolist() for row in chosen_GT] != recorded:
            return False
    return True


def _write_page(path: Path, cases: Sequence[Case], shown: Mapping[str, Any], index: str = "") -> Path:
    budget = MAX_STRIP_BYTES // max(1, sum(len(case.strips) for case in cases))
    roles = any("roles" in c for case in shown["cases"] for column in case["columns"] for c in column["completions"])
    return write_page(
        path,
        "tokens.html",
        shown=shown,
        strips=[[frame_uris(strip.frames_FHWC, budget) for strip in case.strips] for case in cases],
        lines=[case.lines() for case in cases],
        folded=[case.first is not None for case in cases],
        roles=role_legend() if roles else [],
        role_colors=palette.ROLES,
        index=index,
    )


def frame_uris(frames_FHWC: UInt8[np.ndarray, "F H W 3"], max_bytes: int) -> list[str]:
    """The frames as data URIs, at a quality and then at a size that keeps them below ``max_bytes`` together."""
    area = float(MAX_FRAME_AREA)
    while True:
        small = [_small(frame, area**0.5 * (frame.shape[0] / frame.shape[1]) ** 0.5) for frame in frames_FHWC]
        for quality in QUALITIES:
            uris = [webp_uri(frame, quality) for frame in small]
            if sum(map(len, uris)) <= max_bytes:
                return uris
        area /= 2


def _small(pixels_HWC: UInt8[np.ndarray, "H W 3"], max_height: float) -> UInt8[np.ndarray, "h w 3"]:
    height, width = pixels_HWC.shape[:2]
    scale = max_height / height
    if scale >= 1:
        return pixels_HWC
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels_HWC).resize(size))


def selection_settings(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of ``TopRatio`` in the ``selection`` node of a config; None where it is another selection."""
    if not str(node.get("_target_", "")).endswith(".TopRatio"):
        return None
    return {key: value for key, value in node.items() if key != "_target_"}
