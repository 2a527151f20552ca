"""A policy that two ranks hold a half of each learns what one process learns from the same global batch."""

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
from ktr.policy.family import Policy
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


SETTINGS += [Setting("sft", make=supervised, num_steps=2), *map(random_mix, range(4))]


def learn(policy_folder: Path, folder: Path, names: Sequence[str]) -> None:
    for setting in SETTINGS:
        if setting.name not in names:
            continue
        outcome = run(setting, policy_folder, sharded=True)
        torch.save((outcome.metrics, outcome.weights), folder / f"{setting.name}.pt")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    policy_folder, folder = save_random_policy(tmp_path_factory.mktemp("policy")), tmp_path_factory.mktemp("sharded")
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
