"""Qwen3-VL: features of several tower layers, each added to the hidden states of one of the first decoder layers.

The rows of a video hold them side by side, F = D·(1 + layers): what a view does to a row it does to all of them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration

from ktr.policy.family import Grid
from ktr.policy.qwen_vl import QwenVL


class Qwen3VLPolicy(QwenVL):
    """A Qwen3-VL folder as a policy."""

    model_class = Qwen3VLForConditionalGeneration
    time_in = "text"

    def parts(self) -> dict[str, list[nn.Module]]:
        tower, parts = self.model.model.visual, super().parts()
        parts["vision"].append(tower.pos_embed)
        parts["merger"].append(tower.deepstack_merger_list)
        return parts

    def run_tower(self, pixels_NC: Float[Tensor, "N C"], grids: Sequence[Grid]) -> Float[Tensor, "M F"]:
        output = self._tower(pixels_NC, grids)
        return torch.cat([output.pooler_output, *output.deepstack_features], dim=-1)

    def _inputs(self, input_ids_NS: Int[Tensor, "N S"], features_MF: Float[Tensor, "M F"] | None) -> dict[str, Any]:
        if features_MF is None or len(features_MF) == 0:
            return super()._inputs(input_ids_NS, None)
        width = self.model.config.text_config.hidden_size
        first_MD, *deeper = features_MF.to(self.device).split(width, dim=-1)
        return super()._inputs(input_ids_NS, first_MD) | {
            "visual_pos_masks": self.is_visual(input_ids_NS.to(self.device)),
            "deepstack_visual_embeds": deeper,
        }
