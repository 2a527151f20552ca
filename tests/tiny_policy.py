"""A random policy and random prompts, small enough that a test can afford the slow way."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path

import torch

from ktr.policy.family import Policy
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.shapes.tiny_model import TOKENS_PER_SECOND, build_model, build_processor
from ktr.types import Completion, MediaFile, Medium, PromptInputs, RolloutGroup, VideoQuestion

GRID = (6, 4, 4)
NUM_VISUAL = 24


def save_random_policy(folder: Path, seed: int = 0) -> Path:
    """An untrained policy whose weights are scaled up, so that its distributions are far from uniform."""
    model = build_model(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.mul_(3.0)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


@cache
def _loaded(folder: Path) -> QwenVLPolicy:
    return QwenVLPolicy(folder)


def fresh_policy(folder: Path) -> QwenVLPolicy:
    """A policy as one loads it from a folder that no test writes again. To copy one takes an eighth of that time."""
    return deepcopy(_loaded(folder))


VIDEO = Medium("video", GRID, 1.0)
IMAGE = Medium("image", (1, 4, 8))
CLIP = Medium("video", (3, 4, 6), 0.7)
SEVERAL_MEDIA = ((VIDEO, IMAGE, CLIP), (IMAGE, IMAGE), (CLIP, VIDEO), (IMAGE, CLIP, IMAGE, VIDEO))


def random_prompt(policy: Policy, index: int, media: Sequence[Medium] = (VIDEO,)) -> PromptInputs:
    """A prompt of random words around random media; its length depends on ``index``."""
    generator = torch.Generator().manual_seed(index)
    config = policy.model.config
    words = torch.tensor([i for i in range(len(policy.tokenizer)) if i not in set(policy.banned_ids.tolist())])
    pick = lambda n: words[torch.randint(len(words), (n,), generator=generator)]  # noqa: E731
    placeholder = {"video": config.video_token_id, "image": config.image_token_id}
    start, end = torch.tensor([config.vision_start_token_id]), torch.tensor([config.vision_end_token_id])
    parts = [pick(3 + index % 4)]
    for place, medium in enumerate(media):
        visual = torch.full((medium.num_patches // policy.merge_area,), placeholder[medium.kind])
        parts += [pick(min(place, 2)), start, visual, end]
    ids = torch.cat([*parts, pick(5 + index % 3)])
    positions = mrope_positions(policy.is_visual(ids), media, 2, TOKENS_PER_SECOND)
    question = VideoQuestion(
        id=f"q{index}",
        problem="what color is first ?",
        problem_type="free-form",
        answer="red",
        media=tuple(MediaFile(Path(f"{index}-{place}"), medium.kind) for place, medium in enumerate(media)),
        category="nth",
    )
    pixels = torch.randn(sum(medium.num_patches for medium in media), 3 * 2 * 14 * 14, generator=generator)
    return PromptInputs(question, ids, positions, pixels, tuple(media))


def random_group(
    policy: QwenVLPolicy, index: int, lengths: list[int], media: Sequence[Medium] = (VIDEO,)
) -> RolloutGroup:
    """A prompt with completions of the given lengths, words drawn at random."""
    prompt = random_prompt(policy, index, media)
    generator = torch.Generator().manual_seed(1000 + index)
    words = torch.tensor([i for i in range(len(policy.tokenizer)) if i not in set(policy.banned_ids.tolist())])
    completions = [
        Completion(words[torch.randint(len(words), (n,), generator=generator)], torch.zeros(n), "", "length", 0)
        for n in lengths
    ]
    return RolloutGroup(prompt, tuple(completions))
