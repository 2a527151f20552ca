"""What a reader can do with a token page, in a wide and a narrow window, light and dark."""

import json
import random
import re
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page

from ktr.attribution.selection import TopRatio

from .conftest import SIGNALS, Open

RATIOS = (0.01, 0.05, 0.1, 0.2, 0.28, 0.3, 0.5, 0.7, 0.99, 1.0)


def completions(path: Path, column: int = 0) -> list[dict]:
    return json.loads(path.with_suffix(".json").read_text())["cases"][0]["columns"][column]["completions"]


def selected_by(completion: dict, ratio: float) -> dict[str, list[bool]]:
    """What ktr selects from a completion's scores."""
    length = len(completion["tokens"])
    eos_GT = torch.zeros(1, length, dtype=torch.bool)
    eos_GT[0, -1] = completion["ended"]
    mask_GT = torch.ones(1, length, dtype=torch.bool)
    rows = {name: torch.tensor([row]) for name, row in completion["scores"].items()}
    return {name: TopRatio(ratio)(row, mask_GT, eos_GT)[0].tolist() for name, row in rows.items()}


def counted(by_signal: dict[str, list[bool]]) -> int:
    return sum(any(choices) for choices in zip(*by_signal.values()))


def drawn(page: Page, completion: int = 0) -> list[bool]:
    tokens = page.locator(f'.tokens[data-completion="{completion}"] .token')
    return [value == "true" for value in tokens.evaluate_all("all => all.map((t) => t.ariaSelected)")]


def detail(page: Page) -> dict[str, list[str]]:
    rows = page.locator("#detail dl > div").evaluate_all(
        "all => all.map((row) => [...row.children].map((c) => c.textContent))"
    )
    return {row[0]: row[1:] for row in rows}


def test_the_slider_and_the_switches_select_anew_as_ktr_does(open_page: Open, pages: dict[str, Path]):
    page, (first, second) = open_page(pages["one"]), completions(pages["one"])
    slider, output = page.locator("#ratio"), page.locator(".ratio output")
    counts = page.locator(".counts").first
    assert output.text_content() == "20 %"
    for keys, ratio in ((("ArrowRight",) * 3, 0.23), (("End",), 1.0), (("Home",), 0.01), (("PageUp",) * 3, None)):
        for key in keys:
            slider.press(key)
        ratio = ratio or float(slider.input_value())
        assert output.text_content() == f"{100 * ratio:g} %"
        for index, completion in enumerate((first, second)):
            chosen = selected_by(completion, ratio)
            assert drawn(page, index) == [any(choices) for choices in zip(*chosen.values())]
        each = ", ".join(f"{name} {sum(row)}" for name, row in selected_by(first, ratio).items())
        assert counts.text_content().endswith(f": {each}")
    ratio, on = float(slider.input_value()), list(SIGNALS)
    for name in SIGNALS:
        page.locator(f'[data-signal="{name}"]').click()
        on.remove(name)
        chosen = {name: row for name, row in selected_by(first, ratio).items() if name in on}
        assert sum(drawn(page)) == counted(chosen) and name not in counts.text_content()
    assert page.locator(".token.kept").count() == 0
    page.get_by_label("V visual").check()
    assert drawn(page) == selected_by(first, ratio)["visual"]


def test_a_tint_is_stronger_the_higher_the_score_and_left_out_tokens_are_grey(open_page: Open, pages: dict[str, Path]):
    page, (first, _) = open_page(pages["one"]), completions(pages["one"])
    for name in SIGNALS[1:]:
        page.locator(f'[data-signal="{name}"]').uncheck()
    page.locator("#ratio").press("End")
    looks = page.locator('.tokens[data-completion="0"] .token').evaluate_all(
        "all => all.map((t) => [getComputedStyle(t).backgroundImage, getComputedStyle(t).color])"
    )
    opacity = {}
    for (image, _), score in zip(looks, first["scores"]["entropy"]):
        (found,) = set(re.findall(r"rgba\(217, 138, 0, ([\d.]+)\)", image))
        assert opacity.setdefault(score, float(found)) == float(found)
    assert sorted(opacity.values()) == [opacity[score] for score in sorted(opacity)] and len(set(opacity.values())) == 5
    kept = {color for _, color in looks}
    page.locator('[data-signal="entropy"]').uncheck()
    grey = set(page.locator(".tokens .token").evaluate_all("all => all.map((t) => getComputedStyle(t).color)"))
    assert len(kept) == len(grey) == 1 and kept != grey


def test_a_token_tells_its_numbers_when_it_is_pointed_at_tapped_or_reached_by_keys(
    open_page: Open, pages: dict[str, Path]
):
    page, (first, _) = open_page(pages["one"]), completions(pages["one"])
    tokens = page.locator('.tokens[data-completion="0"] .token')
    narrow = page.viewport_size["width"] < 640
    tokens.nth(3).tap() if narrow else tokens.nth(3).hover()
    told = detail(page)
    assert list(told) == [
        "log-prob", "log-prob, masked", "log-prob, shuffled", "entropy", "rank among words", "gradient norm",
        *(f"{name} score" for name in first["scores"]), "ground truth",
    ]  # fmt: skip
    assert told["log-prob"][0].startswith(f"{first['logps'][3]:.3f}".replace("-", "−"))
    assert told["log-prob, masked"][0].startswith(f"{first['view_logps']['masked'][3]:.3f}")
    assert told["entropy"] == [f"{first['entropies'][3]:.3f}"] and told["rank among words"] == [str(first["ranks"][3])]
    assert told["gradient norm"] == [f"{first['gradient_norms'][3]:.3f}"]
    assert told["ground truth"] == [first["roles"][3].replace("_", " or ")]
    better = sum(score > first["scores"]["visual"][3] for score in first["scores"]["visual"])
    kept = " ✓" if selected_by(first, 0.2)["visual"][3] else ""
    assert told["visual score"] == [f"{first['scores']['visual'][3]:.3f}, {better + 1} of 40{kept}"]

    tokens.first.focus()
    heading = page.locator("#detail h2")
    for key, at in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", 40), ("Home", 1)):
        page.keyboard.press(key)
        assert f"token {at} of 40" in heading.text_content()
        assert re.search(
            rf"token {at} of 40, (selected by|left out)", page.evaluate("document.activeElement.ariaLabel")
        )
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.getBoundingClientRect().top")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") < below
    assert page.locator('.tokens[data-completion="0"] [tabindex="0"]').count() == 1


def test_every_control_and_one_token_of_each_completion_are_reached_by_tab(open_page: Open, pages: dict[str, Path]):
    page = open_page(pages["one"])
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        name = "(({ dataset, className, id }) => dataset.signal || className || id)(document.activeElement)"
        reached.append(page.evaluate(name))
    assert reached[:6] == [*SIGNALS, "ratio", "strip"] and [name.split()[0] for name in reached[6:]] == ["token"] * 2


def test_two_policies_are_told_side_by_side(open_page: Open, pages: dict[str, Path]):
    page = open_page(pages["both"])
    one, two = (completions(pages["both"], column)[0] for column in (0, 1))
    page.locator('.tokens[data-column="1"][data-completion="0"] .token').nth(5).click()
    told = detail(page)
    assert told[""] == ["one", "two"] and told["entropy"] == [f"{of['entropies'][5]:.3f}" for of in (one, two)]
    assert page.locator(".token.shown").count() == 2
    boxes = [page.locator(f'.tokens[data-column="{column}"]').first.bounding_box() for column in (0, 1)]
    side_by_side = page.viewport_size["width"] > 640
    assert (boxes[0]["y"] == boxes[1]["y"]) == side_by_side


def test_other_completions_unfold_and_without_a_rule_the_recorded_sets_are_drawn(
    open_page: Open, pages: dict[str, Path]
):
    page = open_page(pages["cases"])
    assert page.locator("#ratio").count() == 0 and page.locator(".tokens:visible").count() == 4
    page.get_by_text("The other completions").first.click()
    assert page.locator(".tokens:visible").count() == 6
    first = completions(pages["cases"])[0]
    recorded = {position for positions in first["selected"].values() for position in positions}
    drawn_now = page.locator('.tokens[data-case="0"][data-column="0"][data-completion="0"] [aria-selected="true"]')
    assert drawn_now.count() == len(recorded)


@pytest.mark.parametrize("name", ["one", "both", "index", "cases"])
def test_a_page_fits_its_window_in_the_colours_of_the_reader_and_is_small(
    open_page: Open, pages: dict[str, Path], name: str
):
    page = open_page(pages[name])
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (max(map(int, ground)) < 60) == dark
    assert pages[name].stat().st_size < 5_000_000
    assert all(page.locator("img").evaluate_all("all => all.map((i) => i.complete && i.naturalWidth > 0)"))
    if name == "one":
        assert page.locator(".strip img").count() == 32


def test_the_index_leads_to_each_page_and_back(open_page: Open, pages: dict[str, Path]):
    page = open_page(pages["index"])
    assert page.locator(".pages a").count() == 2
    page.locator(".pages a").nth(1).click()
    assert page.locator("h1").text_content() == "index: q1" and page.locator(".tokens .token").count() == 160
    page.get_by_text("All questions").click()
    assert page.locator("h1").text_content() == "index"


@pytest.mark.parametrize("scope", ["completion", "group"])
@pytest.mark.parametrize("ties", ["deterministic", "keep"])
@pytest.mark.parametrize("eos_selectable", [False, True])
def test_the_page_s_selection_is_ktr_s_to_the_last_tie(browser, pages, scope: str, ties: str, eos_selectable: bool):
    """On grids of few values, where most scores tie, on random floats, and on scores that never act."""
    chance, settings = random.Random(0), {"scope": scope, "ties": ties, "eos_selectable": eos_selectable}
    groups = []
    draws = (lambda: chance.choice((-0.5, 0.0, 0.1, 0.2, 0.7)), lambda: chance.gauss(0.5, 1), lambda: -chance.random())
    for draw in draws * 15:
        lengths = [chance.randint(1, 30) for _ in range(3)]
        scores = [torch.tensor([draw() for _ in range(n)], dtype=torch.float32) for n in lengths]
        groups.append((scores, [chance.random() < 0.7 for _ in lengths]))
    page = browser.new_page()
    page.goto(pages["one"].as_uri())
    asked = [
        [[[float(f"{value:.9g}") for value in row.tolist()] for row in scores], ended, settings, ratio]
        for scores, ended in groups
        for ratio in RATIOS
    ]
    found = page.evaluate("asked => asked.map((of) => topRatio(...of))", asked)
    page.close()
    for (scores, ended), rows in _by_group(groups, found):
        lengths = torch.tensor([len(row) for row in scores])
        mask_GT = torch.arange(int(lengths.max()))[None] < lengths[:, None]
        eos_GT = (torch.arange(mask_GT.shape[1])[None] == lengths[:, None] - 1) & torch.tensor(ended)[:, None]
        padded_GT = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True)
        for ratio, of_page in rows:
            chosen_GT = TopRatio(ratio, **settings)(padded_GT, mask_GT, eos_GT)
            expected = [row[:length].tolist() for row, length in zip(chosen_GT, lengths)]
            assert of_page == expected, (ratio, scores, ended)


def _by_group(groups, found):
    for index, group in enumerate(groups):
        yield group, zip(RATIOS, found[index * len(RATIOS) : (index + 1) * len(RATIOS)])
