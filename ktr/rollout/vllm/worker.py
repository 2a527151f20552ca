"""What ktr adds to vLLM's worker: log-probs before top-p, and the positions that its model computes.

vLLM grafts the class onto its worker (``worker_extension_cls``); the methods are called by ``collective_rpc``.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from vllm.multimodal.inputs import (
    MultiModalBatchedField,
    MultiModalFeatureSpec,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    PlaceholderRange,
)


class WorkerExtension:
    """Methods of vLLM's worker, which has ``model_runner``."""

    model_runner: Any

    def log_probs_before_truncation(self) -> bool:
        """Let log-probs be those of the tempered distribution before top-p; False where this runner can't."""
        sampler = getattr(getattr(self.model_runner, "sampler", None), "topk_topp_sampler", None)
        if sampler is None:
            return False
        if not isinstance(sampler, UntruncatedLogProbs):
            self.model_runner.sampler.topk_topp_sampler = UntruncatedLogProbs(sampler)
        return True

    def prompt_positions(
        self, num_tokens: int, media: Sequence[tuple[str, int, Sequence[int], float | None]]
    ) -> list[list[int]]:
        """The 3 rows of M-RoPE positions that vLLM's model gives a prompt.

        Each of ``media`` is a modality, the place of its first placeholder, its grid, and the seconds between patches,
        where positions are made of them.
        """
        model, field = self.model_runner.model, MultiModalBatchedField()
        merge = model.config.vision_config.spatial_merge_size
        features = []
        for modality, offset, grid_thw, seconds in media:
            data = {f"{modality}_grid_thw": torch.tensor(grid_thw)}
            if seconds is not None:
                data["second_per_grid_ts"] = torch.tensor(seconds, dtype=torch.float64)
            item = MultiModalKwargsItem({key: MultiModalFieldElem(value, field) for key, value in data.items()})
            place = PlaceholderRange(offset=offset, length=math.prod(grid_thw) // merge**2)
            features.append(MultiModalFeatureSpec(item, modality, "", place))
        positions, _ = model.get_mrope_input_positions([0] * num_tokens, features)
        return positions.tolist()


class UntruncatedLogProbs(nn.Module):
    """vLLM's sampler, with the log-probs of the distribution that top-p has not yet cut.

    The mismatch with the trainer and its correction are about the policy's distribution; the share of the nucleus is
    not part of either.
    """

    def __init__(self, sampler: nn.Module):
        super().__init__()
        self.sampler = sampler

    def forward(
        self, logits: Tensor, generators: dict[int, torch.Generator], k: Tensor | None, p: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        logps = logits.log_softmax(dim=-1, dtype=torch.float32)  # before the sampler cuts the logits in place
        sampled, _ = self.sampler(logits, generators, k, p)
        return sampled, logps
