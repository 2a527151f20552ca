"""What the models of the Qwen-VL line share: where their parts are, and how tower and language model are called."""

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ktr.policy.family import Grid, Policy
from ktr.policy.patch_projection import PatchProjection


class QwenVL(Policy, ABC):
    """A tower at ``model.visual``, a language model with M-RoPE at ``model.language_model``, a head at ``lm_head``."""

    def parts(self) -> dict[str, list[nn.Module]]:
        model = self.model.model
        return {
            "vision": [model.visual.patch_embed, model.visual.blocks],
            "merger": [model.visual.merger],
            "language": [model.language_model.layers, model.language_model.norm],
            "embeddings": [model.language_model.embed_tokens],
            "head": [self.model.lm_head],
        }

    def run_tower(self, pixels_NC: Float[Tensor, "N C"], grids: Sequence[Grid]) -> Float[Tensor, "M F"]:
        return self._tower(pixels_NC, grids).pooler_output

    def hidden_states(
        self,
        input_ids_NS: Int[Tensor, "N S"],
        positions_3NS: Int[Tensor, "3 N S"],
        features_MF: Float[Tensor, "M F"] | None,
        visible: Bool[Tensor, "_ 1 _ L"] | None,
        **attention: Any,
    ) -> Float[Tensor, "N S D"]:
        return self.model.model.language_model(
            **self._inputs(input_ids_NS, features_MF),
            position_ids=positions_3NS.to(self.device),
            attention_mask=visible,
            **attention,
        ).last_hidden_state

    def _inputs(self, input_ids_NS: Int[Tensor, "N S"], features_MF: Float[Tensor, "M F"] | None) -> dict[str, Any]:
        """What the language model reads of tokens, the placeholders filled with ``features_MF`` in order."""
        return {"inputs_embeds": self.embed(input_ids_NS, features_MF)}

    @property
    def decoder_layers(self) -> nn.ModuleList:
        return self.model.model.language_model.layers

    def own_row_parts(self) -> list[nn.Module]:
        layer: Any = self.decoder_layers[-1]
        return [layer.self_attn.o_proj, layer.post_attention_layernorm, layer.mlp]

    def finish_rows(self, attended_ND: Float[Tensor, "N _"], residual_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        project, norm, mlp = self.own_row_parts()
        hidden_ND = residual_ND + project(attended_ND)
        return self.model.model.language_model.norm(hidden_ND + mlp(norm(hidden_ND)))

    def _load(self, folder: Path, dtype: torch.dtype | Literal["auto"]) -> Any:
        model = super()._load(folder, dtype)
        patches = model.model.visual.patch_embed
        patches.proj = PatchProjection.of(patches.proj)
        return model

    def _tower(self, pixels_NC: Float[Tensor, "N C"], grids: Sequence[Grid]) -> Any:
        tower = self.model.model.visual
        pixels_NC = pixels_NC.to(self.device, tower.dtype, non_blocking=True)
        return tower(pixels_NC, grid_thw=torch.tensor(grids, device=self.device))
