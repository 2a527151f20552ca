"""Qwen3-VL's mixture of experts: Qwen3-VL, with a router and fused experts in place of an MLP."""

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import Qwen3VLMoeForConditionalGeneration

from ktr.policy.lora import adapted_modules
from ktr.policy.qwen3_vl.policy import Qwen3VLPolicy

_EXPERTS = (".mlp.experts.gate_up_proj", ".mlp.experts.down_proj")


class Qwen3VLMoePolicy(Qwen3VLPolicy):
    """A Qwen3-VL-MoE folder as a policy.

    The router is trained by the policy's loss alone: no auxiliary loss balances the experts.
    """

    model_class = Qwen3VLMoeForConditionalGeneration
    has_experts = True

    def as_in_folder(self, name: str, tensor: Tensor) -> Tensor:
        """Experts lie in the folder as (expert, in, out), and in the model as (expert, out, in)."""
        return tensor.transpose(1, 2) if name.endswith(_EXPERTS) else tensor

    def _write(self, model: Any, folder: Path, max_shard_size: str) -> None:
        if adapted_modules(model):
            super()._write(model, folder, max_shard_size)
            return
        # transformers would write experts as they lie in the model, which nothing but transformers reads.
        weights = {name: self.as_in_folder(name, tensor).contiguous() for name, tensor in model.state_dict().items()}
        model.save_pretrained(folder, max_shard_size=max_shard_size, state_dict=weights, save_original_format=False)

    def finish_rows(self, attended_ND: Float[Tensor, "N _"], residual_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        modules: Any = self.own_row_parts()
        project, norm, mlp = modules
        hidden_ND = residual_ND + project(attended_ND)
        # The experts take a batch of rows.
        return self.model.model.language_model.norm(hidden_ND + mlp(norm(hidden_ND)[None])[0])
