"""A group of two short completions that no policy sampled, and scores of its tokens: what parts are tried on."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ktr.attribution.group_scores import GroupScores
from ktr.attribution.views import View
from ktr.rewards.composite import ContrastingReward
from ktr.types import Completion, Distributions, Medium, PromptInputs, RolloutGroup, TokenScores, VideoQuestion

_LENGTHS, _WORDS, _EOS = (3, 2), 8, 7


@dataclass(frozen=True)
class MadeUpGroup:
    """Two completions of a real question, and scores of their tokens that no policy gave."""

    group: RolloutGroup

    @classmethod
    def about(cls, question: VideoQuestion) -> "MadeUpGroup":
        """Two answers with the question's own words in them, of three tokens and of two."""
        text = f"<think>{question.problem}</think><answer>{question.answer}</answer>"
        completions = tuple(
            Completion(torch.arange(_EOS - length + 1, _EOS + 1), -torch.ones(length), text, "stop", 0)
            for length in _LENGTHS
        )
        grids = {"video": Medium("video", (2, 2, 2), 1.0), "image": Medium("image", (1, 2, 2))}
        media = tuple(grids[file.kind] for file in question.media)
        num_patches = sum(medium.num_patches for medium in media)
        prompt = PromptInputs(
            question, torch.zeros(4, dtype=torch.long), torch.zeros(3, 4, dtype=torch.long),
            torch.zeros(num_patches, 1), media,
        )  # fmt: skip
        return cls(RolloutGroup(prompt, completions))

    @property
    def shape(self) -> tuple[int, int]:
        """(G, T)"""
        return len(_LENGTHS), max(_LENGTHS)

    @property
    def ends_GT(self) -> Bool[Tensor, "G T"]:
        """True on the EOS of each completion."""
        return self.group.completion_ids_GT == _EOS

    def as_read_by(self, reward: Any) -> RolloutGroup:
        """The group with what a reward asks for beside the completions."""
        contrast = self.group.completions if isinstance(reward, ContrastingReward) else ()
        counts_G = torch.ones(len(_LENGTHS), dtype=torch.long) if getattr(reward, "reads_selection", False) else None
        return replace(self.group, contrast=contrast, num_selected_G=counts_G)

    def scores(self, views: tuple[View, ...]) -> GroupScores:
        """Scores under the factual view and ``views``."""
        return GroupScores.of(self.group, self._of_tokens(), {view: self._of_tokens() for view in views}, [_EOS], 0)

    def _of_tokens(self) -> TokenScores:
        mask_GT = self.group.completion_mask_GT
        ones_GT = torch.where(mask_GT, 1.0, 0.0)
        hidden_ND = torch.linspace(0, 1, self.group.num_tokens)[:, None]
        banned = torch.zeros(0, dtype=torch.long)
        head = torch.linspace(-1, 1, _WORDS)[None]
        distributions = Distributions(hidden_ND, lambda rows_ND: rows_ND @ head, mask_GT, banned)
        return TokenScores(-ones_GT, ones_GT, distributions)
