"""The tiny policy before any training, from which the recipe of the cold start begins."""

from pathlib import Path

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.shapes.tiny_model import build_model


class UntrainedPolicy(QwenVLPolicy):
    """Tokenizer, processor and configuration of the tiny model at ``path``, with weights drawn anew from ``seed``."""

    def __init__(self, path: str | Path, seed: int):
        super().__init__(path)
        self.model.load_state_dict(build_model(seed).state_dict())
