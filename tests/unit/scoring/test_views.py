"""What each view shows: what it changes changes, and nothing else does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from ktr.attribution.views import Factual, MaskedVideo, ShuffledFrames, View
from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.scoring.shuffled_prompt import shuffled_prompt
from ktr.scoring.views import apply_view
from ktr.shapes.tiny_model import TOKENS_PER_SECOND
from ktr.types import Medium
from tests.tiny_policy import CLIP, GRID, IMAGE, NUM_VISUAL, VIDEO, random_prompt


@pytest.fixture
def seen(policy):
    prompt = random_prompt(policy, 0)
    with torch.no_grad():
        (features,) = policy.encode_video([prompt])

    def see(view, seed=0):
        with torch.no_grad():
            return apply_view(view, policy, prompt, features, seed)

    return prompt, features, see


def test_the_factual_view_is_the_prompt(seen):
    prompt, features, see = seen
    view = see(Factual())
    assert torch.equal(view.input_ids_P, prompt.input_ids_P) and torch.equal(view.features_NF, features)
    assert view.next_position == int(prompt.positions_3P.max()) + 1


@pytest.mark.parametrize("masking", ["drop", "drop_compact", "zero", "blank_frames", "noise_frames"])
def test_a_masked_video_tells_nothing_of_the_video(policy, seen, masking):
    """Two videos under one question look the same once masked."""
    prompt, _, see = seen
    masked = see(MaskedVideo(masking))
    other = type(prompt)(
        prompt.question, prompt.input_ids_P, prompt.positions_3P, torch.randn_like(prompt.pixels_NC), prompt.media
    )
    with torch.no_grad():
        (features,) = policy.encode_video([other])
        masked_other = apply_view(MaskedVideo(masking), policy, other, features, 0)
    torch.testing.assert_close(masked.features_NF, masked_other.features_NF, atol=1e-5, rtol=0)


def test_only_the_compact_mask_moves_the_text(seen):
    prompt, _, see = seen
    assert see(MaskedVideo("drop")).next_position == int(prompt.positions_3P.max()) + 1
    compact = see(MaskedVideo("drop_compact"))
    assert compact.next_position == prompt.num_tokens - NUM_VISUAL
    assert compact.positions_3P.tolist() == [list(range(prompt.num_tokens - NUM_VISUAL))] * 3


@pytest.mark.parametrize("masking", ["drop", "zero"])
def test_half_a_mask_hides_half_of_the_visual_tokens(seen, masking):
    _, features, see = seen
    view = see(MaskedVideo(masking, fraction=0.5))
    visible = view.features_NF[view.features_NF.any(dim=1)]
    assert len(visible) == NUM_VISUAL // 2
    assert all((row == features).all(dim=1).any() for row in visible)


@pytest.mark.parametrize("masking", ["blank_frames", "noise_frames"])
def test_half_a_mask_of_frames_hides_whole_temporal_patches_and_shows_the_rest_as_it_was(policy, seen, masking):
    prompt, _, see = seen
    given, tower = [], policy.run_tower
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "run_tower", lambda pixels, grids: given.append(pixels) or tower(pixels, grids))
        see(MaskedVideo(masking, fraction=0.5))
    same = (given[0] == prompt.pixels_NC).unflatten(0, (GRID[0], -1))
    assert same.all(dim=(1, 2)).sum() == GRID[0] // 2 == (~same.any(dim=(1, 2))).sum()


def test_noise_has_the_statistics_of_pixels_and_its_seed_repeats_it(policy, seen):
    prompt, _, see = seen
    given, tower = [], policy.run_tower
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "run_tower", lambda pixels, grids: given.append(pixels) or tower(pixels, grids))
        for seed in (1, 1, 2):
            see(MaskedVideo("noise_frames"), seed)
    assert torch.equal(given[0], given[1]) and not torch.equal(given[0], given[2])
    assert abs(given[0].mean()) < 0.01 and abs(given[0].std() - 1) < 0.01 and given[0].shape == prompt.pixels_NC.shape


@pytest.mark.parametrize("masking", ["drop", "zero", "blank_frames", "noise_frames"])
def test_a_small_fraction_hides_something_all_the_same(seen, masking):
    _, features, see = seen
    view = see(MaskedVideo(masking, fraction=0.01))
    assert view.features_NF.shape != features.shape or not torch.allclose(view.features_NF, features, atol=1e-3)


def test_shuffled_patches_are_the_features_of_the_shuffled_pixels(policy, seen):
    """The tower neither attends across temporal patches nor knows time: permuting after it is exact."""
    prompt, features, see = seen
    view = see(ShuffledFrames("temporal_patch"), seed=3)
    rows = [int((features == row).all(dim=1).nonzero()[0]) for row in view.features_NF]
    order = torch.tensor(rows).view(GRID[0], -1)[:, 0] // (NUM_VISUAL // GRID[0])
    pixels = prompt.pixels_NC.unflatten(0, (GRID[0], -1))[order].flatten(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(policy.run_tower(pixels, [GRID]), view.features_NF, atol=1e-5, rtol=0)


def test_shuffling_frames_moves_each_frame_whole(policy, seen, monkeypatch):
    prompt, _, see = seen
    given, tower = [], policy.run_tower
    monkeypatch.setattr(policy, "run_tower", lambda pixels, grids: given.append(pixels) or tower(pixels, grids))
    see(ShuffledFrames("frame", order="reverse"))

    def frames(pixels):  # (frames, rows · channels · pixels)
        return pixels.view(GRID[0], GRID[1] * GRID[2], 3, 2, 196).permute(0, 3, 1, 2, 4).reshape(2 * GRID[0], -1)

    assert torch.equal(frames(given[0]), frames(prompt.pixels_NC).flip(0))


def test_draws_of_a_shuffle_differ_and_seeds_repeat_it(seen):
    _, _, see = seen
    first = see(ShuffledFrames(draw=0), seed=1).features_NF
    assert torch.equal(first, see(ShuffledFrames(draw=0), seed=1).features_NF)
    assert not torch.equal(first, see(ShuffledFrames(draw=1), seed=1).features_NF)


@dataclass(frozen=True)
class Faded(View):
    """A view of a user's own: the rows of a share of each video, drawn at random, at half of their size."""

    name = "faded"
    share: float = 0.5

    def changes(self, media: Sequence[Medium]) -> list[bool]:
        return [medium.kind == "video" for medium in media]

    def rows(self, rows_NF: Tensor, medium: Medium, generator: torch.Generator) -> Tensor:
        faded_N = torch.rand(len(rows_NF), generator=generator) < self.share
        return torch.where(faded_N.to(rows_NF.device)[:, None], rows_NF / 2, rows_NF)


def test_a_view_says_itself_what_becomes_of_the_visual_rows(policy, seen):
    prompt, features, see = seen
    view = see(Faded())
    half = (view.features_NF * 2 == features).all(dim=1)
    assert 0 < half.sum() < NUM_VISUAL and torch.equal(view.features_NF[~half], features[~half])
    assert torch.equal(view.input_ids_P, prompt.input_ids_P) and torch.equal(view.positions_3P, prompt.positions_3P)
    assert torch.equal(see(Faded()).features_NF, view.features_NF)
    assert not torch.equal(see(Faded(), seed=1).features_NF, view.features_NF)
    assert torch.equal(see(Faded(share=1)).features_NF, features / 2)
    pictures = replace(prompt, media=tuple(replace(medium, kind="image") for medium in prompt.media))
    assert torch.equal(apply_view(Faded(), policy, pictures, features, 0).features_NF, features)
    with pytest.raises(NotImplementedError, match=r"View has no rows\(rows_NF, medium, generator\)"):
        see(View())


MEDIA = (VIDEO, IMAGE, CLIP)
EVERY_VIEW = [
    *[MaskedVideo(masking) for masking in ("drop", "drop_compact", "zero", "blank_frames", "noise_frames")],
    *[MaskedVideo(masking, fraction=0.5) for masking in ("drop", "drop_compact", "zero", "noise_frames")],
    *[ShuffledFrames(granularity) for granularity in ("temporal_patch", "frame")],
]


@pytest.fixture(scope="module")
def three(policy):
    prompt = random_prompt(policy, 0, MEDIA)
    with torch.no_grad():
        (features,) = policy.encode_video([prompt])
    return prompt, features


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("view", EVERY_VIEW, ids=str)
@torch.no_grad()
def test_a_view_of_one_medium_leaves_the_others_as_they_are(policy, three, view, place):
    """To the bit: ids, features, and positions up to where the gap closes; the medium itself is seen otherwise."""
    prompt, features = three
    of_medium = torch.arange(len(MEDIA)).repeat_interleave(
        torch.tensor([len(rows) for rows in prompt.by_medium(features)])
    )
    seen = apply_view(replace(view, media=[place]), policy, prompt, features, 3)
    others = features[of_medium != place]
    if isinstance(view, ShuffledFrames) and place == 1:  # a picture has no order
        assert seen.features_NF is features
        return
    if view_drops := "drop" in getattr(view, "masking", ""):
        num_kept = round((of_medium == place).sum().item() * (1 - view.fraction))
        assert len(seen.features_NF) == len(others) + num_kept
        assert all((seen.features_NF == row).all(1).any() for row in others)
    else:
        assert torch.equal(seen.features_NF[of_medium != place], others)
        assert not torch.equal(seen.features_NF[of_medium == place], features[of_medium == place])
    words = ~policy.is_visual(prompt.input_ids_P)
    assert torch.equal(seen.input_ids_P[~policy.is_visual(seen.input_ids_P)], prompt.input_ids_P[words])
    if not view_drops:
        assert torch.equal(seen.positions_3P, prompt.positions_3P)


@torch.no_grad()
def test_frames_move_inside_each_video_and_never_across(policy, three):
    prompt, features = three
    shown = prompt.by_medium(apply_view(ShuffledFrames(), policy, prompt, features, 3).features_NF)
    for before, after, medium in zip(prompt.by_medium(features), shown, MEDIA, strict=True):
        assert torch.equal(before, after) == (medium.kind == "image")
        assert torch.equal(before.sort(0).values, after.sort(0).values)
    shuffled = shuffled_prompt(prompt, ShuffledFrames(), policy.temporal_patch_size, 3)
    torch.testing.assert_close(torch.cat(shown), policy.encode_video([shuffled])[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_gap_of_one_medium_closes_and_the_blocks_of_the_others_keep_their_shape(policy, three):
    prompt, features = three
    closed = apply_view(MaskedVideo("drop_compact", media=[0]), policy, prompt, features, 0)
    visual_P = policy.is_visual(closed.input_ids_P)
    expected = mrope_positions(visual_P, MEDIA[1:], 2, TOKENS_PER_SECOND)
    assert torch.equal(closed.positions_3P, expected) and closed.next_position == int(expected.max()) + 1


@pytest.mark.parametrize("view", [MaskedVideo(media=[3]), MaskedVideo("zero", media=[7]), ShuffledFrames(media=[1])])
def test_a_view_of_media_that_a_prompt_has_not_is_the_prompt(policy, three, view):
    prompt, features = three
    seen = apply_view(view, policy, prompt, features, 0)
    assert seen.features_NF is features and torch.equal(seen.input_ids_P, prompt.input_ids_P)
