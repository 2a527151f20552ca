"""Two thousand rows, a tenth of them broken in every way of the table: each is one skip, and none is learned from."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ktr.data.datamodule import QuestionDataModule
from ktr.data.dataset import QuestionDataset
from ktr.data.prompts import PromptTemplate
from ktr.data.skips import SkipLog
from ktr.data.video import VideoReader, VideoSettings
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.rewards.accuracy import Accuracy
from ktr.rewards.composite import CompositeReward
from ktr.types import PromptInputs, VideoQuestion
from tests.broken_rows import write_media, write_rows

NUM_GOOD, NUM_BROKEN = 1800, 200


@pytest.fixture
def encode(policy_folder: Path) -> Iterator[Callable[[VideoQuestion], PromptInputs]]:
    """The real encoder; good rows share some files, and each of those is read once."""
    reader = VideoReader(VideoSettings(num_frames=16, max_pixels=56 * 56, min_pixels=56 * 56))
    encoder, known = PromptEncoder(policy_folder, PromptTemplate("", {}), reader, 900), dict[Path, PromptInputs]()

    def encode(question: VideoQuestion) -> PromptInputs:
        if not question.id.startswith("good"):
            return encoder.encode(question)
        if question.media not in known:
            known[question.media] = encoder.encode(question)
        return replace(known[question.media], question=question)

    yield encode
    reader.close()


def test_of_rows_of_which_a_tenth_is_broken_each_good_one_is_asked_and_each_other_is_one_skip_of_its_kind(
    encode: Callable[[VideoQuestion], PromptInputs], tmp_path: Path
):
    write_media(tmp_path / "media")
    kinds = write_rows(tmp_path / "rows.jsonl", NUM_GOOD, NUM_BROKEN)
    rows = QuestionDataset(tmp_path / "rows.jsonl", tmp_path / "media")
    assert len(rows) + len(rows.skips) == NUM_GOOD + NUM_BROKEN
    skips, check = SkipLog(tmp_path / "skips.jsonl"), CompositeReward({"accuracy": Accuracy()}).check
    data = QuestionDataModule(rows, rows, encode, 4, 0, 8, skips=skips, num_decoders=0, check=check)

    held_out = Counter(prompt.question.id for batch in data.val_dataloader() for prompt in batch)
    assert len(held_out) == held_out.total() == NUM_GOOD and all(id.startswith("good") for id in held_out)
    late = [json.loads(line) for line in (tmp_path / "skips.jsonl").read_text().splitlines()]
    found = {skip.row: skip.kind for skip in rows.skips}
    found |= {2 * int(skip["id"].removeprefix("broken-")) + 1: skip["kind"] for skip in late}
    assert len(late) + len(rows.skips) == len(found) == NUM_BROKEN
    wrong = {row: (kind, found.get(row)) for row, kind in enumerate(kinds) if found.get(row, "") not in kind.split(" ")}
    assert wrong == {}

    asked = {prompt.question.id for batch in data.train_dataloader() for prompt in batch}
    assert asked <= set(held_out) and len(asked) > 0.9 * NUM_GOOD  # what is replaced asks some of the next epoch
    assert skips.counts.total() >= 2 * len(late)
