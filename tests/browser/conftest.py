"""Pages of made-up records in a real browser: Debian's chromium, or the one that $CHROMIUM names."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright

from ktr.analysis.filmstrip import Strip
from ktr.analysis.token_page import Case, write_cases, write_pages
from ktr.attribution.selection import TopRatio
from ktr.record.token_records import Record
from ktr.types import MediaFile

CHROMIUM = shutil.which(os.environ.get("CHROMIUM", "chromium"))
WINDOWS = {"wide": (1280, 900), "narrow": (360, 740)}
RULE = {"ratio": 0.2, "scope": "completion", "ties": "deterministic", "eos_selectable": False}
SIGNALS = ("entropy", "visual", "temporal", "mine")
WORDS = ("so", "red", "moves", "left", "</think>", "<b>&", "now")
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.exit("tests/browser needs chromium: apt-get install chromium, or name it in $CHROMIUM", 1)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(window, scheme) for window in WINDOWS for scheme in ("light", "dark")], ids="-".join)
def open_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens files in a window; at the end no script may have failed and nothing but files may have been asked for."""
    (window, scheme), faults, asked = request.param, [], []
    width, height = WINDOWS[window]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=window == "narrow"
    )
    context.on("request", lambda sent: asked.append(sent.url))
    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.on("console", lambda message: faults.append(message.text))

    def open_file(path: Path) -> Page:
        page = context.new_page()
        page.goto(path.as_uri())
        return page

    yield open_file
    context.close()
    assert faults == [] and asked and all(url.startswith(("file:", "data:")) for url in asked)


def made_up_records(seed: int, length: int = 40) -> list[Record]:
    """Two completions of a question, the first cut off, with all that a record may hold and many ties."""
    chance = random.Random(seed)
    records = []
    for index in range(2):
        some = lambda: [round(chance.uniform(0.1, 3), 3) for _ in range(length)]  # noqa: E731
        scores = {name: [chance.choice([0, 0.25, 0.5, 1, 2.5]) for _ in range(length)] for name in SIGNALS}
        eos_GT = torch.zeros(1, length, dtype=torch.bool)
        eos_GT[0, -1] = index > 0
        mask_GT = torch.ones(1, length, dtype=torch.bool)
        selected = {
            name: TopRatio(**RULE)(torch.tensor([row]), mask_GT, eos_GT)[0].nonzero().flatten().tolist()
            for name, row in scores.items()
        }
        records.append({
            "question": "q1", "problem": "what comes <first> ?", "options": [], "answer": "red", "category": "nth",
            "problem_type": "free-form", "media": "clip.mp4", "data_type": "video", "completion": index, "text": "",
            "finish_reason": "stop" if index else "length", "reward": 1.0, "rewards": {"accuracy": 1.0},
            "tokens": [chance.choice(WORDS) for _ in range(length)], "logps": [-value for value in some()],
            "view_logps": {"masked": some(), "shuffled": some()}, "entropies": some(),
            "ranks": [chance.randint(1, 9) for _ in range(length)], "gradient_norms": some(),
            "roles": [chance.choice(("appearance", "order_motion", "nothing")) for _ in range(length)],
            "scores": scores, "selected": selected,
        })  # fmt: skip
    return records


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of 32 frames of noise, one of two policies, an index of two questions, and case studies without a rule."""
    folder = tmp_path_factory.mktemp("pages")
    noise = np.random.default_rng(0).integers(0, 256, (32, 252, 392, 3), dtype=np.uint8)
    one = Case({"one": made_up_records(1)}, (Strip(MediaFile(Path("clip.mp4")), noise, 0.5),))
    both = Case(
        {"one": made_up_records(1), "two": made_up_records(2)},
        (Strip(MediaFile(Path("clip.mp4")), noise[:4], 0.5),),
        paired=True,
    )
    made = {"one": [one], "both": [both], "index": [one, both]}
    pages = {name: write_pages(folder / f"{name}.html", cases, RULE, name)[0] for name, cases in made.items()}
    studied = Case({"one": made_up_records(1), "two": made_up_records(2)}, first=(1, 0))
    return pages | {"cases": write_cases(folder / "cases.html", [studied] * 2, None, "cases")}
