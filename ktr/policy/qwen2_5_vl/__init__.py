"""The Qwen2.5-VL family: its model as a policy, its inputs, its positions."""

from ktr.policy.qwen2_5_vl.inputs import PromptEncoder as FamilyEncoder
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy as FamilyPolicy

__all__ = ["FamilyEncoder", "FamilyPolicy"]
