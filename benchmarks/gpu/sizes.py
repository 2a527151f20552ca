"""What is measured: models by their published numbers, videos, answers; and random models of these numbers.

Weights are drawn where they compute: none are read, written or fetched.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from benchmarks.small_model import model_config, random_group, write_processor
from ktr.plan.architecture import architecture
from ktr.plan.options import Card, Options
from ktr.plan.plan import Plan
from ktr.plan.settings import PlannedView, RunSettings
from ktr.policy.folder_model import Dtype
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.types import Medium, RolloutGroup

FREEZE = ("vision",)  # as the paper's runs have it
VIEWS = {
    "grpo": (),
    "video_ktr": (PlannedView("masked", kept=0.0), PlannedView("shuffled", runs_tower=True)),
}


@dataclass(frozen=True)
class Size:
    """Models by name with the numbers of their config.json, and the questions that they are asked.

    A frame has ``side`` patches; ``text_tokens`` are those of a prompt beside its visual ones.
    """

    models: Mapping[str, Mapping[str, Any]]
    frames: Sequence[int]
    side: tuple[int, int]
    text_tokens: int
    completion_tokens: int
    num_questions: int  # that are answered at a time
    num_completions: int = 8

    def group(self, model: str, frames: int, seed: int = 1) -> RolloutGroup:
        words = self.text_tokens - 2  # the marks of a video
        return random_group(
            [self.completion_tokens] * self.num_completions,
            [Medium("video", (frames // 2, *self.side), 1.0)],
            (words // 4, words - words // 4),
            self.models[model]["text_config"]["vocab_size"],
            seed=seed,
        )

    def plan(self, model: str, frames: int, algorithm: str, card: Card) -> Plan:
        """Of one question's update: a card, bf16 throughout, layers checkpointed, no rollouts."""
        grid = (frames // 2, *self.side)
        visual = grid[0] * grid[1] * grid[2] // 4
        run = RunSettings(
            name=f"{model} {frames} {algorithm}",
            model_path=Path(model),
            loads_folder=True,
            accelerator="gpu",
            num_gpus=1,
            num_nodes=1,
            shard=1,
            can_spread=False,
            cpu_offload=False,
            questions_per_step=1,
            num_updates=1,
            updates_per_rollout=1,
            grid=grid,
            visual_tokens=visual,
            prompt_tokens=visual + self.text_tokens,
            num_completions=self.num_completions,
            max_tokens=self.completion_tokens,
            completion_tokens=self.completion_tokens,
            dtype="bfloat16",
            is_mixed=False,
            gradient_checkpointing=True,
            freeze=FREEZE,
            lora=None,
            chunk_size=512,
            max_tokens_per_pass=16384,
            views=VIEWS[algorithm],
            has_reference=False,
            num_factual=0,
            num_head=0,
            engine="",
            contrast_completions=0,
            max_rows=256,
            gpu_memory_utilization=0.0,
            sleep=False,
            is_matched=False,
        )
        facts = self.models[model]
        return Plan(run, architecture(facts["model_type"], facts), card, Options())


def full() -> Size:
    """The paper's questions: 128 visual tokens a pair of frames, groups of 8, answers of half the longest."""
    published = json.loads(files("ktr.plan").joinpath("models.json").read_text(encoding="utf-8"))
    models = {name: published[name] for name in ("Qwen2.5-VL-3B", "Qwen2.5-VL-7B")}
    return Size(models, (16, 32, 64), (16, 32), text_tokens=300, completion_tokens=384, num_questions=4)


def tiny() -> Size:
    """The same at a size that a CPU runs in seconds."""
    text = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 256}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 128}
    vision |= {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112}
    facts = {"model_type": "qwen2_5_vl", "text_config": text, "vision_config": vision | {"fullatt_block_indexes": [1]}}
    models = {f"tiny {kind}": facts | {"tie_word_embeddings": kind == "tied"} for kind in ("tied", "untied")}
    return Size(models, (4, 8), (4, 8), text_tokens=20, completion_tokens=8, num_questions=2, num_completions=4)


class RandomWeights(Qwen2_5_VLForConditionalGeneration):
    """A model of a folder without weights, drawn on the default device."""

    @classmethod
    def from_pretrained(cls, folder: Path, dtype: torch.dtype, **_: Any) -> Any:  # pyright: ignore
        model = cls._from_config(AutoConfig.from_pretrained(folder), dtype=dtype)
        return model, {"missing_keys": (), "mismatched_keys": ()}


class RandomPolicy(QwenVLPolicy):
    """A policy of random weights."""

    model_class = RandomWeights


def make_policy(
    facts: Mapping[str, Any], folder: Path, device: torch.device, dtype: Dtype = "bfloat16"
) -> RandomPolicy:
    """A policy of the numbers of ``facts``; its config and tokenizer are written to ``folder``."""
    config = model_config(facts["text_config"], facts["vision_config"], facts["tie_word_embeddings"])
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    config.save_pretrained(folder)
    write_processor(folder, facts["text_config"]["vocab_size"])
    with device:
        policy = RandomPolicy(folder, dtype, freeze=FREEZE, gradient_checkpointing=True)
    policy.switch_off_dropout()
    return policy


@contextmanager
def endless(policy: RandomPolicy) -> Iterator[None]:
    """Inside, no answer ends by itself: all are equally long."""
    banned_ids = policy.banned_ids
    policy.banned_ids = torch.cat([banned_ids, banned_ids.new_tensor(policy.eos_token_ids)])
    try:
        yield
    finally:
        policy.banned_ids = banned_ids
