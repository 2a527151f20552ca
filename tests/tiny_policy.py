"""A random policy and random prompts, small enough that a test can afford the slow way."""

from pathlib import Path

import torch

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.shapes.tiny_model import TOKENS_PER_SECOND, build_model, build_processor
from ktr.types import Completion, PromptInputs, RolloutGroup, VideoQuestion

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


def random_prompt(policy: QwenVLPolicy, index: int, data_type: str = "video") -> PromptInputs:
    """A prompt of random words around one random video; its length depends on ``index``."""
    generator = torch.Generator().manual_seed(index)
    config = policy.model.config
    words = torch.tensor([i for i in range(len(policy.tokenizer)) if i not in set(policy.banned_ids.tolist())])
    pick = lambda n: words[torch.randint(len(words), (n,), generator=generator)]  # noqa: E731
    visual = torch.full((NUM_VISUAL,), config.video_token_id)
    start, end = torch.tensor([config.vision_start_token_id]), torch.tensor([config.vision_end_token_id])
    ids = torch.cat([pick(3 + index % 4), start, visual, end, pick(5 + index % 3)])
    positions = mrope_positions(ids, config.video_token_id, GRID, 2, 1.0, TOKENS_PER_SECOND)
    question = VideoQuestion(
        id=f"q{index}",
        problem="what color is first ?",
        problem_type="free-form",
        answer="red",
        media_path=Path(f"{index}.mp4"),
        data_type=data_type,
        category="nth",
    )
    pixels = torch.randn(GRID[0] * GRID[1] * GRID[2], 3 * 2 * 14 * 14, generator=generator)
    return PromptInputs(question, ids, positions, pixels, GRID)


def random_group(policy: QwenVLPolicy, index: int, lengths: list[int]) -> RolloutGroup:
    """A prompt with completions of the given lengths, words drawn at random."""
    prompt = random_prompt(policy, index)
    generator = torch.Generator().manual_seed(1000 + index)
    words = torch.tensor([i for i in range(len(policy.tokenizer)) if i not in set(policy.banned_ids.tolist())])
    completions = [
        Completion(words[torch.randint(len(words), (n,), generator=generator)], torch.zeros(n), "", "length", 0)
        for n in lengths
    ]
    return RolloutGroup(prompt, tuple(completions))
