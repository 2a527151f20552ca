"""A prompt of frames that were kept is that of frames that are decoded, to the bit, whatever the family."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from ktr.data.frame_cache import FrameCache
from ktr.data.video import DecodedVideo, VideoSettings
from ktr.errors import TooThinMedia
from ktr.policy.encoder import Encoder
from ktr.policy.families import make_encoder
from ktr.types import WHOLE, Clip, MediaFile, PromptInputs, VideoQuestion
from tests.tiny_families import FAMILIES, RandomFrames, encoder_of, save_family

BOUNDS = VideoSettings(num_frames=64, min_pixels=16 * 28 * 28, max_pixels=128 * 28 * 28)
KEPT = ("4x360x640", "6x64x96", "2x700x130", "2x61x97", "4x448x224")
# So long that the processor would resize what it resized once more: they are decoded each time.
NOT_KEPT = ("2x33x6000", "2x6000x33")


class Counted(RandomFrames):
    """Frames of which it is known how often they were decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.settings, self.reads = BOUNDS, 0

    def read(self, path: Path, clip: Clip = WHOLE) -> DecodedVideo:
        self.reads += 1
        return super().read(path, clip)


@pytest.fixture(scope="module", params=FAMILIES[:3])
def encoders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Encoder]:
    """One without a cache and one with an empty one."""
    folder = save_family(request.param, tmp_path_factory.mktemp("families") / request.param)
    template = encoder_of(folder).template
    cache = FrameCache(tmp_path_factory.mktemp("frames"), 1.0)
    plain, keeping = (make_encoder(folder, template, Counted(), 1 << 20, 0, kept) for kept in (None, cache))
    for encoder in (plain, keeping):
        encoder.max_prompt_tokens = encoder._max_position = 1 << 20
    return plain, keeping


def about(path: Path) -> VideoQuestion:
    path.touch()
    return VideoQuestion("q", "what color is first ?", "free-form", "red", (MediaFile(path), MediaFile(path)))


def same(one: PromptInputs, other: PromptInputs) -> bool:
    """Whether two prompts are equal in every field, tensors to the bit."""
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return all(torch.equal(*pair) if isinstance(pair[0], torch.Tensor) else pair[0] == pair[1] for pair in pairs)


@pytest.mark.parametrize("name", [*KEPT, *NOT_KEPT])
def test_a_prompt_with_the_cache_is_the_one_without_it(encoders: tuple[Encoder, Encoder], name: str, tmp_path: Path):
    plain, keeping = encoders
    question, before = about(tmp_path / name), keeping.reader.reads  # pyright: ignore
    wanted = plain.encode(question)
    assert all(same(keeping.encode(question), wanted) for _ in range(3))
    assert keeping.reader.reads - before == (1 if name in KEPT else 6)  # pyright: ignore


def test_a_changed_file_and_another_number_of_frames_are_decoded(encoders: tuple[Encoder, Encoder], tmp_path: Path):
    _, keeping = encoders
    question = about(tmp_path / "2x64x64")
    keeping.encode(question)
    before = keeping.reader.reads  # pyright: ignore
    (tmp_path / "2x64x64").write_text("more")
    keeping.encode(question)
    assert keeping.reader.reads == before + 1  # pyright: ignore
    other = keeping.apart(8)
    assert other.cache is keeping.cache and other.reader.settings.num_frames == 8
    of_other = other.cache.key(question.media[0], other.reader.settings, {})  # pyright: ignore
    assert of_other != other.cache.key(question.media[0], BOUNDS, {})  # pyright: ignore


def test_a_video_that_is_too_thin_stays_a_fault_with_the_cache(encoders: tuple[Encoder, Encoder], tmp_path: Path):
    with pytest.raises(TooThinMedia):
        encoders[1].encode(replace(about(tmp_path / "2x4x1000"), media=(MediaFile(tmp_path / "2x4x1000"),)))
