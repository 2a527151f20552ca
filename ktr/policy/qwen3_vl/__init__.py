"""The Qwen3-VL family: seconds as text, a block for each temporal patch, features for several layers."""

from ktr.policy.qwen3_vl.inputs import Qwen3VLEncoder as FamilyEncoder
from ktr.policy.qwen3_vl.policy import Qwen3VLPolicy as FamilyPolicy

__all__ = ["FamilyEncoder", "FamilyPolicy"]
