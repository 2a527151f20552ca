"""The world and the shipped cold start stay what they were: a change here asks for a new cold start."""

import json
from pathlib import Path

import pytest

from ktr.shapes.example import Mixture, draw_example
from ktr.shapes.tokenizer import build_tokenizer
from ktr.shapes.world import WorldSettings

ROWS = json.loads(Path(__file__).with_name("rows.json").read_text())
COLD_START = Path(__file__).parents[2] / "ktr" / "shapes" / "cold_start"


@pytest.mark.parametrize("index", range(len(ROWS)))
def test_a_seed_gives_the_row_that_it_gave_before(index):
    example = draw_example((1, 0, index), WorldSettings(), Mixture())
    row = json.loads(json.dumps(example.row(index, f"./videos/{index}.mp4")))
    assert row == ROWS[index]


def test_the_cold_start_speaks_the_words_of_the_world():
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(COLD_START).get_vocab() == build_tokenizer().get_vocab()


def test_the_cold_start_is_small_and_holds_no_pickle():
    files = list(COLD_START.iterdir())
    assert sum(file.stat().st_size for file in files) <= 4 * 2**20
    assert {file.suffix for file in files} <= {".json", ".jinja", ".safetensors"}
