"""The Qwen3-VL-MoE family: Qwen3-VL with routed experts; its prompts are Qwen3-VL's."""

from ktr.policy.qwen3_vl.inputs import Qwen3VLEncoder as FamilyEncoder
from ktr.policy.qwen3_vl_moe.policy import Qwen3VLMoePolicy as FamilyPolicy

__all__ = ["FamilyEncoder", "FamilyPolicy"]
