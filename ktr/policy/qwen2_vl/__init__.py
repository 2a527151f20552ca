"""The Qwen2-VL family: positions without seconds, a tower without windows."""

from ktr.policy.qwen2_vl.inputs import Qwen2VLEncoder as FamilyEncoder
from ktr.policy.qwen2_vl.policy import Qwen2VLPolicy as FamilyPolicy

__all__ = ["FamilyEncoder", "FamilyPolicy"]
