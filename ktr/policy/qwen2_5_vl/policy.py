"""Qwen2.5-VL: tower, language model and head called apart, with explicit positions."""

from transformers import Qwen2_5_VLForConditionalGeneration

from ktr.policy.qwen_vl import QwenVL


class QwenVLPolicy(QwenVL):
    """A Qwen2.5-VL folder as a policy."""

    model_class = Qwen2_5_VLForConditionalGeneration
    time_in = "positions"
