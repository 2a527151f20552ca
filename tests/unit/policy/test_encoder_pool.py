"""Threads encode side by side, each with an encoder of its own, and one encoder serves whoever comes next."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ktr.errors import MissingMedia
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.types import MediaFile, Medium, PromptInputs, VideoQuestion

HERE, GONE = (VideoQuestion("", "?", "free-form", "", (MediaFile(Path(name)),)) for name in ("here", "gone"))


class Encoder(PromptEncoder):
    """Says in a prompt's ids which of its copies encoded, and for how many frames."""

    def __init__(self, num_frames: int, copies: "list[Encoder]", together: Barrier):
        self.template: Any = None
        self.reader: Any = SimpleNamespace(settings=SimpleNamespace(num_frames=num_frames))
        self.copies, self.together = copies, together
        copies.append(self)

    def apart(self, num_frames: int) -> "Encoder":
        return Encoder(num_frames, self.copies, self.together)

    def encode(self, question: VideoQuestion) -> PromptInputs:
        if question is GONE:
            raise MissingMedia("gone", "is not there")
        self.together.wait(timeout=90)
        ids = torch.tensor([self.copies.index(self), self.reader.settings.num_frames])
        return PromptInputs(question, ids, torch.zeros(3, 2).long(), torch.zeros(4, 1), (Medium("image", (1, 2, 2)),))


def test_threads_have_encoders_of_their_own_which_stay():
    together = 3
    copies: list[Encoder] = []
    pool = EncoderPool(Encoder(16, copies, Barrier(together)))
    with ThreadPoolExecutor(together) as threads:
        for _ in range(4):
            found = [prompt.input_ids_P[0].item() for prompt in threads.map(pool.encode, [HERE] * together)]
            assert sorted(found) == list(range(together)) and len(copies) == together


def test_each_number_of_frames_has_its_own_and_a_fault_keeps_none_away():
    copies: list[Encoder] = []
    pool = EncoderPool(Encoder(16, copies, Barrier(1)))
    found = [pool.encode(HERE, frames).input_ids_P.tolist() for frames in (None, 8, 16, 8)]
    assert found == [[0, 16], [1, 8], [0, 16], [1, 8]]
    with pytest.raises(MissingMedia):
        pool.encode(GONE)
    assert pool.encode(HERE).input_ids_P[0] == 0
