"""Packed scoring equals its slow twin: the same log-probs, entropies and gradients as G plain forward passes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from benchmarks.reference_scoring import reference_scores
from benchmarks.small_model import random_group, write_model_folder
from ktr.attribution.views import Factual, MaskedVideo, ShuffledFrames, View
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.scoring.scorer import GroupScorer
from ktr.types import Medium, RolloutGroup, TokenScores

V = 97
VIEWS = [
    Factual(),
    MaskedVideo("drop"),
    MaskedVideo("drop_compact"),
    MaskedVideo("zero"),
    MaskedVideo("blank_frames"),
    ShuffledFrames("temporal_patch"),
    ShuffledFrames("temporal_patch", "reverse"),
    ShuffledFrames("frame"),
    ShuffledFrames("frame", "segmental", draw=2),
]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    return write_model_folder(path, hidden=128, layers=2, vocabulary=V, vision_hidden=32, vision_layers=2, patch=4)


@pytest.fixture(scope="module")
def policy(folder: Path) -> QwenVLPolicy:
    return QwenVLPolicy(folder)


@pytest.fixture(scope="module")
def twin(folder: Path) -> Qwen2_5_VLForConditionalGeneration:
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="sdpa")


CLIP = Medium("video", (4, 4, 6), 1.0)


def group_of(lengths: Sequence[int], seed: int = 1, media: Sequence[Medium] = (CLIP,)):
    return random_group(lengths, media, (3 + seed, 7), V, patch=4, seed=seed)


RAGGED = group_of([7, 12, 1, 9])


def packed(policy: QwenVLPolicy, groups: Sequence[RolloutGroup], views: Sequence[View], **settings: Any):
    features = policy.encode_video([group.prompt for group in groups])
    seeds = range(3, 3 + len(groups))
    return GroupScorer(**{"chunk_size": 16, **settings}).score_pass(
        policy, groups, features, views, seeds, entropy=True
    )


def plain(
    policy: QwenVLPolicy,
    twin: Qwen2_5_VLForConditionalGeneration,
    group: RolloutGroup,
    view: View,
    seed: int = 3,
    temperature: float = 1.0,
) -> TokenScores:
    return reference_scores(twin, group, view, seed, policy.banned_ids, policy.black_patch_C, temperature, entropy=True)


def assert_equal_scores(ours: TokenScores, theirs: TokenScores) -> None:
    assert ours.entropies_GT is not None and theirs.entropies_GT is not None
    torch.testing.assert_close(ours.logps_GT, theirs.logps_GT, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.entropies_GT, theirs.entropies_GT, rtol=0, atol=1e-5)


def gradients(module: torch.nn.Module, scores: Sequence[TokenScores]) -> dict[str, Tensor]:
    """Of a fixed random weighting of all log-probs, so that every token matters differently."""
    module.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(9)
    torch.stack(
        [(s.logps_GT * torch.randn(s.logps_GT.shape, generator=generator)).sum() for s in scores]
    ).sum().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}


def assert_equal_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys() and ours
    total = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    for name, gradient in theirs.items():
        # A key bias hardly matters to a softmax; what is left of its gradient is rounding of the terms that cancel.
        tolerance = 1e-5 * max(gradient.norm(), 1e-3 * total)
        assert (ours[name] - gradient).norm() <= tolerance, (name, (ours[name] - gradient).norm() / gradient.norm())


@pytest.mark.parametrize("view", VIEWS, ids=str)
@torch.no_grad()
def test_scores_of_every_view(policy, twin, view):
    (ours,) = packed(policy, [RAGGED], [view])
    assert_equal_scores(ours, plain(policy, twin, RAGGED, view))
    assert not ours.logps_GT[~RAGGED.completion_mask_GT].any()


@pytest.mark.parametrize("view", VIEWS[1:], ids=str)
@torch.no_grad()
def test_every_view_changes_what_is_seen(policy, view):
    (factual,), (counterfactual,) = packed(policy, [RAGGED], [Factual()]), packed(policy, [RAGGED], [view])
    assert (factual.logps_GT - counterfactual.logps_GT).abs().max() > 1e-2


@pytest.mark.parametrize("view", [Factual(), MaskedVideo("drop")], ids=str)
@torch.no_grad()
def test_scores_of_an_image(policy, twin, view):
    image = group_of([5, 2], media=[Medium("image", (1, 4, 6))])
    assert_equal_scores(packed(policy, [image], [view])[0], plain(policy, twin, image, view))


@pytest.mark.parametrize("G", [1, 2, 3, 8, 16])
@torch.no_grad()
def test_scores_of_groups_of_every_size(policy, twin, G):
    group = group_of([1 + (5 * i + 4) % 11 for i in range(G)])
    for view in (Factual(), MaskedVideo("drop"), ShuffledFrames()):
        assert_equal_scores(packed(policy, [group], [view])[0], plain(policy, twin, group, view))


@torch.no_grad()
def test_scores_at_a_sampling_temperature_with_one_row_of_logits_at_a_time(policy, twin):
    (ours,) = packed(policy, [RAGGED], [Factual()], temperature=0.7, chunk_size=1)
    assert_equal_scores(ours, plain(policy, twin, RAGGED, Factual(), temperature=0.7))


@torch.no_grad()
def test_greedy_answers_are_scored_as_an_engine_tells_their_log_probs(policy, twin):
    (ours,) = packed(policy, [RAGGED], [Factual()], temperature=0.0)
    assert_equal_scores(ours, plain(policy, twin, RAGGED, Factual(), temperature=1.0))


SEVERAL = [
    RAGGED,
    group_of([4], seed=2, media=[Medium("video", (2, 6, 4), 1.0)]),
    group_of([3, 11], seed=3),
    group_of([6] * 5, seed=4),
]


def test_several_groups_in_one_row_each_under_its_own_view(policy, twin):
    views = [Factual(), ShuffledFrames("frame"), MaskedVideo("drop"), MaskedVideo("zero")]
    ours = packed(policy, SEVERAL, views)
    theirs = [plain(policy, twin, g, v, seed=3 + i) for i, (g, v) in enumerate(zip(SEVERAL, views, strict=True))]
    for a, b in zip(ours, theirs, strict=True):
        assert_equal_scores(a, b)
    assert_equal_gradients(gradients(policy.model, ours), gradients(twin, theirs))


@torch.no_grad()
def test_scores_do_not_depend_on_how_groups_are_split_into_passes(policy):
    features = policy.encode_video([group.prompt for group in SEVERAL])
    scorers = [GroupScorer(max_tokens_per_pass=limit) for limit in (1, 200, 16384)]
    assert len({len(scorer.split(SEVERAL)) for scorer in scorers}) == 3
    scores = [scorer.score(policy, SEVERAL, features, ShuffledFrames(), [1, 2, 3, 4]) for scorer in scorers]
    for one, some, all_at_once in zip(*scores, strict=True):
        torch.testing.assert_close(one.logps_GT, all_at_once.logps_GT, rtol=0, atol=1e-5)
        torch.testing.assert_close(some.logps_GT, all_at_once.logps_GT, rtol=0, atol=1e-5)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_gradients_of_every_view_with_a_trained_tower(policy, twin, view):
    ours = gradients(policy.model, packed(policy, [RAGGED], [view]))
    assert_equal_gradients(ours, gradients(twin, [plain(policy, twin, RAGGED, view)]))
    tower_is_seen = not (isinstance(view, MaskedVideo) and view.masking != "blank_frames")
    assert any(name.startswith("model.visual") for name in ours) is tower_is_seen


@pytest.mark.parametrize("G", [1, 16])
def test_gradients_of_the_smallest_and_the_largest_group(policy, twin, G):
    group = group_of([1 + (5 * i + 4) % 11 for i in range(G)])
    ours = gradients(policy.model, packed(policy, [group], [Factual()]))
    assert_equal_gradients(ours, gradients(twin, [plain(policy, twin, group, Factual())]))


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_checkpointing": True},
        {"freeze": ["vision", "merger"]},
        {"freeze": ["vision", "merger"], "gradient_checkpointing": True},
        {"freeze": ["vision", "embeddings", "head"]},
        {"lora": LORA},
        {"lora": LORA, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_gradients_of_every_way_to_train(folder, twin, settings):
    policy = QwenVLPolicy(folder, **settings).train()
    reference: Any = twin
    if "lora" in settings:
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:  # as initialised, zero: the adapters would do nothing
                torch.nn.init.normal_(parameter, std=0.1)
        reference = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="sdpa")
        reference.add_adapter(LoraConfig(**LORA))
        reference.load_state_dict(policy.model.state_dict())
    (ours,), theirs = packed(policy, [RAGGED], [Factual()]), plain(policy, reference, RAGGED, Factual())
    assert_equal_scores(ours, theirs)
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    expected = {name: g for name, g in gradients(reference, [theirs]).items() if name in trained}
    assert_equal_gradients(gradients(policy.model, [ours]), expected)


MIXED = group_of([7, 2, 5], seed=6, media=[CLIP, Medium("image", (1, 6, 4)), Medium("video", (3, 4, 4), 0.5)])


@pytest.mark.parametrize(
    "view",
    [
        *VIEWS,
        MaskedVideo("drop", media=[1]),
        MaskedVideo("zero", media=[0, 2]),
        MaskedVideo("blank_frames", media="videos"),
        MaskedVideo("drop", media="images"),
        ShuffledFrames("temporal_patch", media=[2]),
        ShuffledFrames("frame", media=[0]),
    ],
    ids=str,
)
def test_two_videos_and_a_picture_in_one_question(policy, twin, view):
    (ours,), theirs = packed(policy, [MIXED], [view]), plain(policy, twin, MIXED, view)
    assert_equal_scores(ours, theirs)
    assert_equal_gradients(gradients(policy.model, [ours]), gradients(twin, [theirs]))


def test_questions_of_other_media_in_one_row(policy, twin):
    groups, views = [MIXED, RAGGED, MIXED], [MaskedVideo("drop", media=[0]), Factual(), ShuffledFrames()]
    ours = packed(policy, groups, views)
    theirs = [plain(policy, twin, g, v, seed=3 + i) for i, (g, v) in enumerate(zip(groups, views, strict=True))]
    for a, b in zip(ours, theirs, strict=True):
        assert_equal_scores(a, b)
    assert_equal_gradients(gradients(policy.model, ours), gradients(twin, theirs))


@torch.no_grad()
def test_completions_do_not_see_each_other(policy):
    (before,) = packed(policy, [RAGGED], [Factual()])
    changed = RolloutGroup(RAGGED.prompt, (*RAGGED.completions[:1], *group_of([12, 1, 9], seed=8).completions))
    (after,) = packed(policy, [changed], [Factual()])
    torch.testing.assert_close(before.logps_GT[0], after.logps_GT[0], rtol=0, atol=1e-5)
    assert (before.logps_GT[1:] - after.logps_GT[1:]).abs().max() > 1e-2
