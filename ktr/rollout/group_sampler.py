"""Rollouts about a video and, where a reward compares with them, about the same video with its frames shuffled."""

import zlib
from collections.abc import Sequence
from dataclasses import replace

from ktr.rewards.composite import ContrastRollouts
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.scoring.shuffled_prompt import shuffled_prompt
from ktr.types import PromptInputs, RolloutGroup


class GroupSampler:
    """Generates groups with ``engine``, and the completions that ``contrast`` asks for in a second call of it.

    ``temporal_patch_size`` is the policy's: so many frames are one temporal patch.
    """

    def __init__(self, engine: RolloutEngine, contrast: ContrastRollouts | None, temporal_patch_size: int):
        self.engine, self.contrast, self.temporal_patch_size = engine, contrast, temporal_patch_size

    def generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        """One group for each prompt, in order. Its seed fixes the order of the frames and, mixed, the contrast's draws.

        A prompt whose media all stay as they are, such as an image, gets no contrast.
        """
        groups = self.engine.generate(prompts, sampling, seeds)
        if self.contrast is None:
            return groups
        view = self.contrast.view
        videos = [i for i, prompt in enumerate(prompts) if any(view.changes(prompt.media))]
        if not videos:
            return groups
        shuffled = [shuffled_prompt(prompts[i], view, self.temporal_patch_size, seeds[i]) for i in videos]
        few = replace(sampling, num_completions=self.contrast.num_completions(sampling.num_completions))
        other_seeds = [zlib.crc32(f"{seeds[i]}/contrast".encode()) for i in videos]
        contrasts = self.engine.generate(shuffled, few, other_seeds)
        for i, contrast in zip(videos, contrasts, strict=True):
            groups[i] = replace(groups[i], contrast=contrast.completions)
        return groups
