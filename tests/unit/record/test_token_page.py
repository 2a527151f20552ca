"""Token pages: the data they draw, what may be selected anew, and that nothing is fetched or taken for markup."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ktr.analysis.filmstrip import Strip
from ktr.analysis.html import plain
from ktr.analysis.token_page import Case, frame_uris, page_data, selection_settings, write_cases, write_pages
from ktr.attribution.selection import TopRatio
from ktr.attribution.views import MaskedVideo, ShuffledFrames, view_names
from ktr.record.token_records import EXACT, Record, token_records
from ktr.types import MediaFile, TokenWeights

from .conftest import LENGTHS, ROLES, decode, make_experience, make_records, make_scores

RULE = {"ratio": 0.3, "scope": "completion", "ties": "deterministic", "eos_selectable": False}


def selected_records(settings: dict = RULE, digits: int = EXACT, name: str = "q1") -> list[Record]:
    """Records whose sets are what the settings select from the scores, near ties among them."""
    scores_GT = 1 + 1e-6 * torch.rand(2, 7)
    mask_GT = torch.arange(7)[None] < torch.tensor(LENGTHS)[:, None]
    eos_GT = torch.arange(7)[None] == torch.tensor(LENGTHS)[:, None] - 1
    selected_GT = TopRatio(**settings)(scores_GT, mask_GT, eos_GT)
    weights = TokenWeights(selected_GT.float(), {"visual": selected_GT}, {"visual": scores_GT})
    scores = make_scores()
    return token_records(
        make_experience(name), weights, scores, decode, 1, [ROLES[:n] for n in LENGTHS],
        views={"masked": make_scores()}, ranks_GT=torch.ones(2, 7, dtype=torch.long), score_digits=digits,
    )  # fmt: skip


FRAMES = np.full((4, 28, 56, 3), 90, dtype=np.uint8)


def strips(frames_FHWC: np.ndarray = FRAMES) -> tuple[Strip]:
    return (Strip(MediaFile(Path("clip.mp4")), frames_FHWC, 0.5),)


@pytest.mark.parametrize("scope", ["completion", "group"])
@pytest.mark.parametrize("ties", ["deterministic", "keep"])
def test_tokens_can_be_selected_anew_where_the_rule_gives_the_recorded_sets(scope: str, ties: str):
    settings = RULE | {"scope": scope, "ties": ties}
    records = selected_records(settings)
    assert page_data([Case({"one": records})], settings, "t")["selection"] == settings
    other = settings | {"ratio": 0.9}
    assert page_data([Case({"one": records})], other, "t")["selection"] is None
    assert page_data([Case({"one": records})], None, "t")["selection"] is None
    assert page_data([Case({"one": make_records((), 1, with_roles=False)})], settings, "t")["selection"] is None


def test_five_digits_are_too_few_to_select_anew():
    assert page_data([Case({"one": selected_records(digits=5)})], RULE, "t")["selection"] is None


def test_a_page_holds_each_number_of_each_token_and_only_what_there_is():
    records = selected_records()
    records[0]["gradient_norms"] = [0.5] * LENGTHS[0]
    data = page_data([Case({"one": records}, strips())], RULE, "t")
    first, second = data["cases"][0]["columns"][0]["completions"]
    for key in ("tokens", "logps", "entropies", "ranks", "gradient_norms", "roles", "view_logps", "scores"):
        assert first[key] == records[0][key]
    assert "gradient_norms" not in second and first["ended"] and data["signals"] == {"visual": "#1f77c9"}
    assert data["cases"][0]["strips"][0]["frame_seconds"] == [0.0, 0.5, 1.0, 1.5]


def test_a_page_is_self_contained_and_takes_no_text_for_markup(tmp_path: Path):
    path, data = write_pages(tmp_path / "p.html", [Case({"</script>": selected_records()}, strips())], RULE, "<t>")
    page = path.read_text()
    assert set(re.findall(r"""(?:src|href)="([^"]{5})""", page)) == {"data:"}
    assert not re.search(r"@import|url\(|https?:|<t>|<i>q1|<b>&", page)
    assert page.count("</script>") == 2 and "&lt;i&gt;q1&lt;/i&gt;" in page
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1]) == json.loads(data.read_text())


def test_completions_stand_side_by_side_and_the_first_ones_are_those_that_are_asked_for():
    long, short = selected_records(), selected_records()[:1]
    assert Case({"a": long, "b": long}, paired=True).lines() == [(0, 0), (1, 1)]
    assert Case({"a": long, "b": short}, first=(1, 0)).lines() == [(1, 0), (0, None)]


def test_several_questions_give_an_index_and_a_page_each(tmp_path: Path):
    cases = [Case({"one": selected_records(name=name)}, strips()) for name in ("q/1", "q2")]
    index, data = write_pages(tmp_path / "all.json", cases, RULE, "t")
    pages = json.loads(data.read_text())["pages"]
    assert index == tmp_path / "all.html" and pages == ["all/001-q-1.html", "all/002-q2.html"]
    assert all(f'href="{page}"' in index.read_text() and (tmp_path / page).exists() for page in pages)
    assert 'href="../all.html"' in (tmp_path / pages[0]).read_text()


def test_a_page_of_32_frames_stays_small_whatever_they_show(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 280, 364, 3), dtype=np.uint8)
    assert sum(map(len, frame_uris(noise, 2_500_000))) <= 2_500_000
    page = write_cases(tmp_path / "p.html", [Case({"one": selected_records()}, strips(noise))], RULE, "t")
    assert page.stat().st_size < 5_000_000 and page.read_text().count("<img ") == 32


def test_what_json_does_not_know_is_none():
    assert plain({"a": [float("nan"), 1.5, (float("inf"), "x")]}) == {"a": [None, 1.5, [None, "x"]]}


def test_only_a_top_ratio_is_a_rule_of_the_page():
    node = {"_target_": "ktr.attribution.selection.TopRatio", **RULE}
    assert selection_settings(node) == RULE
    assert selection_settings({"_target_": "ktr.attribution.soft_ranks.SoftRanks", "gamma": 1.5}) is None


def test_views_are_called_by_what_they_do_and_counted_from_the_second_on():
    views = [MaskedVideo(), ShuffledFrames(), ShuffledFrames(draw=1), MaskedVideo("zero")]
    assert list(view_names(views).values()) == ["masked", "shuffled", "shuffled 2", "masked 2"]
