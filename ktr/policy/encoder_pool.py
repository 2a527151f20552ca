"""One encoder for several threads: each thread borrows one of its own, with its own tokenizer and decoding process."""

from ktr.policy.encoder import Encoder
from ktr.types import PromptInputs, VideoQuestion


class EncoderPool:
    """As many copies of ``encoder`` as threads encode at once, kept from one question to the next."""

    def __init__(self, encoder: Encoder) -> None:
        self.template, self.num_frames = encoder.template, encoder.reader.settings.num_frames
        self._encoder = encoder
        self._idle: dict[int, list[Encoder]] = {self.num_frames: [encoder]}

    def encode(self, question: VideoQuestion, num_frames: int | None = None) -> PromptInputs:
        """``Encoder.encode`` with ``num_frames`` of each video, if given, instead of the encoder's. Raises as it."""
        num_frames = num_frames or self.num_frames
        idle = self._idle.setdefault(num_frames, [])
        try:
            encoder = idle.pop()
        except IndexError:
            encoder = self._encoder.apart(num_frames)
        try:
            return encoder.encode(question)
        finally:
            idle.append(encoder)
