"""Groups made of texts alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ktr.types import Completion, MediaFile, Medium, PromptInputs, RolloutGroup, VideoQuestion


@pytest.fixture
def make_group() -> Callable[..., RolloutGroup]:
    def make(*texts: str, answer="B", problem_type="multiple choice", lengths=None) -> RolloutGroup:
        question = VideoQuestion("1", "?", problem_type, answer, (MediaFile(Path("a.mp4")),))
        ids_P = torch.arange(3)
        prompt = PromptInputs(question, ids_P, ids_P.expand(3, 3), torch.zeros(4, 2), (Medium("video", (1, 2, 2)),))
        sizes = lengths or [5] * len(texts)
        completions = [
            Completion(torch.ones(size, dtype=torch.long), torch.zeros(size), text, "stop", 0)
            for text, size in zip(texts, sizes, strict=True)
        ]
        return RolloutGroup(prompt, tuple(completions))

    return make
