"""A mixture is its parts: what a seed draws of each is a matter of that part's questions alone."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ktr.data.dataset import QuestionDataset
from ktr.data.mixture import Mixture
from ktr.errors import ConfigError


@pytest.fixture
def part(tmp_path: Path):
    """A data set of ``videos`` rows about videos and ``images`` about images, whose ids count from 0."""
    for name in ("a.mp4", "a.png"):
        (tmp_path / name).write_bytes(b"x")

    def make(name: str, videos: int, images: int = 0, without: int = -1) -> QuestionDataset:
        kinds = ["video"] * videos + ["image"] * images
        rows = [
            {"problem_id": n, "problem": "?", "problem_type": "free-form", "solution": name, "data_type": kind,
             "path": "a.mp4" if kind == "video" else "a.png"}
            for n, kind in enumerate(kinds) if n != without
        ]  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps([*rows, {"problem_id": "bad"}]))
        return QuestionDataset(tmp_path / f"{name}.json", tmp_path)

    return make


def ids(mixture: Mixture) -> list[str]:
    return [question.id for question in mixture.questions]


def test_without_more_it_is_all_parts_one_after_the_other_with_ids_and_skips_of_each(part):
    one, two = part("one", 3), part("two", 2)
    mixture = Mixture({"one": one, "two": two})
    assert ids(mixture) == ["one:0", "one:1", "one:2", "two:0", "two:1"] and len(mixture) == 5
    assert [question.answer for question in mixture.questions] == ["one"] * 3 + ["two"] * 2
    assert mixture.skips == [*one.skips, *two.skips] and len(mixture.skips) == 2


def test_so_many_are_taken_of_each_kind_in_the_order_of_the_file(part):
    mixture = Mixture({"one": part("one", 40, 60), "two": part("two", 5)}, {"one": {"video": 7, "image": 11}})
    taken = [int(id.removeprefix("one:")) for id in ids(mixture)[:18]]
    assert taken == sorted(taken) and sum(place < 40 for place in taken) == 7
    assert ids(mixture)[18:] == [f"two:{n}" for n in range(5)]
    assert len(Mixture({"one": part("one", 40, 60)}, {"one": 18})) == 18


def test_the_seed_decides_and_nothing_but_the_seed_and_the_ids(part):
    one = part("one", 200)
    drawn = {seed: ids(Mixture({"one": one}, {"one": 50}, seed=seed)) for seed in (0, 1)}
    assert drawn[0] != drawn[1] and drawn[0] == ids(Mixture({"two": part("two", 9), "one": one}, {"one": 50}))[9:]
    assert set(drawn[0]) < set(ids(Mixture({"one": one}, {"one": 80})))
    lost = int(drawn[0][20].removeprefix("one:"))
    without = ids(Mixture({"one": part("one", 200, without=lost)}, {"one": 50}))
    assert len(set(drawn[0]) - set(without)) == 1 and len(without) == 50


def test_a_weight_is_how_often_a_question_stands_in_an_epoch_each_time_by_an_id_of_its_own(part):
    mixture = Mixture({"one": part("one", 10), "two": part("two", 3)}, {"one": 8}, {"one": 2.5, "two": 0})
    times = Counter(id.partition("*")[0] for id in ids(mixture))
    assert len(mixture) == 20 == len(set(ids(mixture))) and sorted(times.values()) == [2] * 4 + [3] * 4
    assert ids(Mixture({"one": part("one", 4)}, weights={"one": 1})) == ids(Mixture({"one": part("one", 4)}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"take": {"three": 1}}, r"no part 'three' .*the parts are one, two"),
        ({"weights": {"tow": 1}}, r"no part 'tow'"),
        ({"take": {"one": 5}}, r"take\.one=5: of one 4 can be used; take fewer"),
        ({"take": {"one": {"video": 4, "image": 1}}}, r"of one 4 video, 0 image can be used"),
        ({"take": {"one": {"sound": 1}}}, r"of one 4 video, 0 image can be used"),
        ({"take": {"one": -1}}, r"take\.one=-1"),
        ({"weights": {"one": -0.5}}, r"weights\.one=-0\.5: how often"),
    ],
)
def test_what_the_parts_cannot_give_is_one_sentence(part, given: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        Mixture({"one": part("one", 4), "two": part("two", 2)}, **given)
    assert "\n" not in str(caught.value)
