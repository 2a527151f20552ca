"""A policy that two ranks hold a half of each learns what one process learns from the same global batch."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from ktr.algorithm.entropy_minority import BatchEntropy
from ktr.algorithm.group_divergence import GroupDivergence
from ktr.algorithm.weighting import KeyTokens
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.attribution.views import MaskedVideo
from ktr.data.datamodule import QuestionDataModule
from ktr.data.dataset import QuestionDataset
from ktr.data.order import QuestionOrder
from ktr.data.prompts import PromptTemplate
from ktr.data.skips import SkipLog
from ktr.data.video import VideoReader, VideoSettings
from ktr.policy.family import Policy
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.rewards.composite import CompositeReward
from ktr.rewards.temporal_contrast import TemporalContrast
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.group_divergence import PositionDivergence
from ktr.scoring.scorer import GroupScorer
from ktr.training.demonstrations import Demonstrations
from ktr.training.feature_graph import Features
from ktr.training.optim import AdamWCosine
from ktr.training.sft_module import SFTModule
from ktr.training.view_dropout import ViewDropout
from ktr.types import PromptInputs
from tests.broken_rows import GOOD, write_video
from tests.sharded_run import EvenShare, Outcome, Setting, random_mix, run
from tests.spawned import on_ranks
from tests.tiny_policy import CLIP, IMAGE, VIDEO, save_random_policy

ONE_ROW = {"max_tokens_per_pass": 1}
SIGNALS = {"entropy": EntropySignal(), "visual": VisualSignal(), "temporal": TemporalSignal()}
NEW_PIXELS = {"visual": VisualSignal("blank_frames", distance="js"), "temporal": TemporalSignal("frame")}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
SETTINGS = [
    Setting("grpo"),
    Setting("video_ktr", KeyTokens(SIGNALS, TopRatio()), policy={"gradient_checkpointing": True}),
    Setting(
        "t_grpo",
        rewards={
            "accuracy": EvenShare(),
            "contrast": TemporalContrast(EvenShare(), mu=0.5, bonus=0.3, threshold=0.5),
        },
        media=((VIDEO,), (VIDEO,), (IMAGE,), (IMAGE,)),
    ),
    Setting("tw_grpo", GroupDivergence(PositionDivergence(detach=False)), **ONE_ROW),
    Setting("reference", beta=0.1, num_steps=2, **ONE_ROW),
    Setting("lora", KeyTokens(SIGNALS, TopRatio()), beta=0.1, policy={"lora": LORA}, num_steps=2),
    Setting("frozen_tower", policy={"freeze": ["vision", "merger"], "gradient_checkpointing": True}, num_steps=2),
    Setting("frozen_language", policy={"freeze": ["language", "embeddings", "head"]}, num_steps=2),
    Setting("several_updates", KeyTokens(SIGNALS, TopRatio()), parts={"updates_per_rollout": 2}, num_steps=4),
    Setting("batch_entropy", BatchEntropy(), num_steps=2, **ONE_ROW),
    Setting(
        "image_beside_video",
        KeyTokens(NEW_PIXELS, TopRatio()),
        media=((IMAGE,), (IMAGE, IMAGE), (VIDEO,), (VIDEO, CLIP)),
        num_steps=2,
        **ONE_ROW,
    ),
    Setting(
        "a_rank_without_signal",
        KeyTokens(NEW_PIXELS, TopRatio()),
        {"accuracy": EvenShare(unpaid=[2, 3, 4, 8, 9, 10, 11])},
        num_steps=2,
        **ONE_ROW,
    ),
]


class Words:
    """A loss on the tower's features alone, read by the head."""

    def __call__(self, policy: Policy, prompts: Sequence[PromptInputs], features: Features) -> torch.Tensor:
        return policy.head(torch.cat([*features])).logsumexp(-1).mean()


def supervised(policy: Policy) -> SFTModule:
    return SFTModule(
        policy=policy,
        engine=TransformersEngine(policy),
        scorer=GroupScorer(max_tokens_per_pass=1),
        reward=CompositeReward({"accuracy": EvenShare()}),
        demonstrations=Demonstrations(),
        optimizer=AdamWCosine(lr=1e-4, total_steps=10),
        validation_sampling={},
        failure_dir="failure",
        auxiliary={"words": Words()},
        auxiliary_steps=1,
        view_dropout=ViewDropout([MaskedVideo("drop")], rate=0.5),
    )


NUM_ROWS, QUESTIONS_PER_STEP = 12, 4
CUT = QuestionOrder(NUM_ROWS, seed=0)[QUESTIONS_PER_STEP // 2]  # of the first batch, what the second rank reads first


def write_rows(folder: Path) -> None:
    """Questions about two videos, and one about a video that is cut off."""
    sizes = {"good0.mp4": 16, "good1.mp4": 12}
    whole = [write_video(folder / name, num_frames).read_bytes() for name, num_frames in sizes.items()]
    (folder / "cut.mp4").write_bytes(whole[0][: len(whole[0]) // 2])
    paths = ["cut.mp4" if index == CUT else f"good{index % 2}.mp4" for index in range(NUM_ROWS)]
    rows = [GOOD | {"problem_id": f"q{index}", "path": path} for index, path in enumerate(paths)]
    (folder / "rows.json").write_text(json.dumps(rows))


def read_rows(policy_folder: Path) -> QuestionDataModule:
    folder = policy_folder.parent
    reader = VideoReader(VideoSettings(num_frames=8, max_pixels=56 * 56, min_pixels=56 * 56))
    encode = PromptEncoder(policy_folder, PromptTemplate("", {}), reader, max_prompt_tokens=900).encode
    rows = QuestionDataset(folder / "rows.json", folder)
    skips = SkipLog(folder / f"skips-{os.environ.get('LOCAL_RANK', 'alone')}.jsonl")
    return QuestionDataModule(rows, rows, encode, QUESTIONS_PER_STEP, seed=0, validation_batch_size=1, skips=skips)


SETTINGS += [Setting("sft", make=supervised, num_steps=2), *map(random_mix, range(4))]
SETTINGS += [Setting("one_unreadable", KeyTokens(SIGNALS, TopRatio()), data=read_rows, num_steps=2)]


def learn(policy_folder: Path, folder: Path, names: Sequence[str]) -> None:
    for setting in SETTINGS:
        if setting.name not in names:
            continue
        outcome = run(setting, policy_folder, sharded=True)
        torch.save((outcome.metrics, outcome.weights), folder / f"{setting.name}.pt")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    given, folder = tmp_path_factory.mktemp("given"), tmp_path_factory.mktemp("sharded")
    policy_folder = save_random_policy(given / "policy")
    write_rows(given)
    on_ranks(learn, policy_folder, folder, [s.name for s in SETTINGS])
    yield policy_folder, folder


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_two_ranks_learn_what_one_does(setting: Setting, folders: tuple[Path, Path]):
    sys.stdout.write(f"{setting}\n")
    policy_folder, folder = folders
    alone, beside = run(setting, policy_folder), Outcome(*torch.load(folder / f"{setting.name}.pt"))
    assert alone.metrics
    torch.testing.assert_close(torch.tensor(beside.metrics), torch.tensor(alone.metrics), atol=1e-5, rtol=1e-5)
    assert beside.weights.keys() == alone.weights.keys()
    for name, weight in alone.weights.items():
        torch.testing.assert_close(beside.weights[name], weight, atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.xdist_group("ranks")
def test_a_video_that_one_rank_cannot_read_is_a_skip_of_that_rank(folders: tuple[Path, Path]):
    given = folders[0].parent
    (skip,) = [json.loads(line) for line in (given / "skips-1.jsonl").read_text().splitlines()]
    assert (skip["id"], skip["kind"]) == (f"q{CUT}", "CorruptMedia")
    assert not (given / "skips-0.jsonl").exists()
