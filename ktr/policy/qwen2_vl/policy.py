"""Qwen2-VL: as Qwen2.5-VL is called, with a tower without windows and positions that know no seconds."""

from transformers import Qwen2VLForConditionalGeneration

from ktr.policy.qwen_vl import QwenVL


class Qwen2VLPolicy(QwenVL):
    """A Qwen2-VL folder as a policy."""

    model_class = Qwen2VLForConditionalGeneration
