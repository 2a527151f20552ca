"""Each family against its own class of transformers: packed rows, gradients, greedy answers, and a short training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from benchmarks.reference_scoring import reference_scores
from ktr.attribution.views import Factual, MaskedVideo, ShuffledFrames, View
from ktr.policy import prefix_attention
from ktr.policy.decode_attention import SharedPrompts
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.own_rows import watching_last_layer
from ktr.scoring.packing import pack
from ktr.scoring.scorer import GroupScorer
from ktr.scoring.views import apply_view
from ktr.types import RolloutGroup, TokenScores
from tests.family_run import three_steps
from tests.tiny_families import CLASSES, FAMILIES, SEVERAL, encoder_of, group_about, question_about, save_family

VIEWS: list[View] = [
    Factual(),
    MaskedVideo("drop"),
    MaskedVideo("drop_compact"),
    MaskedVideo("zero"),
    MaskedVideo("blank_frames"),
    ShuffledFrames("temporal_patch"),
    ShuffledFrames("frame"),
]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(family, tmp_path_factory.mktemp("families") / family)


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return load_policy(folder).eval()


@pytest.fixture(scope="module")
def twin(family: str, folder: Path) -> Any:
    return getattr(transformers, CLASSES[family][1]).from_pretrained(folder, attn_implementation="sdpa").eval()


@pytest.fixture(scope="module")
def groups(folder: Path, policy: Policy) -> list[RolloutGroup]:
    encoder = encoder_of(folder)
    asked = (([5, 9, 1], ("6x64x96",)), ([4, 6], ("1x64x64",)), ([3, 7], SEVERAL))
    return [group_about(encoder, policy, lengths, *names) for lengths, names in asked]


def packed(policy: Policy, groups: Sequence[RolloutGroup], view: View) -> list[TokenScores]:
    features = policy.encode_video([group.prompt for group in groups])
    views, seeds = [view] * len(groups), [3] * len(groups)
    return GroupScorer(chunk_size=16).score_pass(policy, groups, features, views, seeds, entropy=True)


def gradients(module: torch.nn.Module, scores: Sequence[TokenScores]) -> dict[str, Tensor]:
    module.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(9)
    weighted = [(s.logps_GT * torch.randn(s.logps_GT.shape, generator=generator)).sum() for s in scores]
    torch.stack(weighted).sum().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_packed_row_is_its_full_rows_gradients_included(
    policy: Policy, twin: Any, groups: list[RolloutGroup], view: View
):
    shown = groups if not isinstance(view, ShuffledFrames) else groups[:1]
    ours = packed(policy, shown, view)
    theirs = [
        reference_scores(twin, group, view, 3, policy.banned_ids, policy.black_patch_C, entropy=True) for group in shown
    ]
    for a, b in zip(ours, theirs, strict=True):
        assert a.entropies_GT is not None and b.entropies_GT is not None
        torch.testing.assert_close(a.logps_GT, b.logps_GT, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.entropies_GT, b.entropies_GT, rtol=0, atol=1e-5)
    of_packed, of_rows = gradients(policy.model, ours), gradients(twin, theirs)
    assert of_packed.keys() == of_rows.keys() and of_rows
    total = torch.stack([gradient.norm() for gradient in of_rows.values()]).norm()
    for name, gradient in of_rows.items():
        assert (of_packed[name] - gradient).norm() <= 1e-5 * max(gradient.norm(), 1e-3 * total), name


@torch.no_grad()
def test_every_view_changes_what_is_seen(policy: Policy, groups: list[RolloutGroup]):
    (factual,) = packed(policy, groups[:1], Factual())
    for view in VIEWS[1:]:
        (changed,) = packed(policy, groups[:1], view)
        assert (factual.logps_GT - changed.logps_GT).abs().max() > 1e-3, view


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rollouts_are_those_of_keys_repeated_for_every_row_and_query_head(
    policy: Policy, folder: Path, temperature: float, monkeypatch: pytest.MonkeyPatch
):
    encoder, sampling = encoder_of(folder), SamplingParams(4, 16, temperature)
    prompts = [encoder.encode(question_about(*names)) for names in (("6x64x96",), ("1x64x64",), SEVERAL)]
    decode, logits = policy.decode, []

    def watched(*args: Any) -> Tensor:
        logits.append(decode(*args))
        return logits[-1]

    monkeypatch.setattr(policy, "decode", watched)
    ours = TransformersEngine(policy).generate(prompts, sampling, seeds=range(3))
    of_ours, logits = logits, []
    monkeypatch.setattr(prefix_attention, "attend_behind_prompts", attend_to_repeated_keys)
    theirs = TransformersEngine(policy).generate(prompts, sampling, seeds=range(3))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.completion_ids_GT, b.completion_ids_GT)
    for a, b in zip(of_ours, logits, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def attend_to_repeated_keys(
    query: Tensor, key: Tensor, value: Tensor, prompts: SharedPrompts, layer: int, scaling: float
) -> Tensor:
    owner_N = prompts.places_2N[0]
    key, value = (torch.cat([x[owner_N], own], 2) for x, own in zip(prompts.layers[layer], (key, value), strict=True))
    visible = pad(prompts.visible_B11P[owner_N], (0, key.shape[2] - prompts.layers[0][0].shape[2]), value=True)
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], 1) for x in (key, value))
    return scaled_dot_product_attention(query, key, value, visible, scale=scaling).transpose(1, 2)


@torch.no_grad()
def test_greedy_answers_are_those_of_transformers_generate(
    policy: Policy, twin: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both read our positions: transformers would place what follows a video elsewhere (``ktr.policy.mrope``)."""
    encoder, sampling = encoder_of(folder), SamplingParams(1, 16, temperature=0.0)
    media = [("6x64x96",), ("1x64x64",), ("4x64x64", "1x96x64"), SEVERAL]
    prompts = [encoder.encode(question_about(*names)) for names in media]
    groups = TransformersEngine(policy).generate(prompts, sampling, seeds=[0] * 4)
    for prompt, group in zip(prompts, groups, strict=True):
        delta = prompt.positions_3P.max() + 1 - prompt.num_tokens
        found = prompt.positions_3P[:, None], delta[None, None]
        monkeypatch.setattr(type(twin.model), "get_rope_index", lambda *_, found=found, **__: found)
        inputs: dict[str, Tensor] = {}
        for kind, pixels in (("video", "pixel_values_videos"), ("image", "pixel_values")):
            of_kind = [i for i, medium in enumerate(prompt.media) if medium.kind == kind]
            if of_kind:
                rows = prompt.by_medium(prompt.pixels_NC)
                inputs[pixels] = torch.cat([rows[i] for i in of_kind])
                inputs[f"{kind}_grid_thw"] = torch.tensor([prompt.media[i].grid_thw for i in of_kind])
        ids = prompt.input_ids_P[None]
        written = twin.generate(
            input_ids=ids,
            mm_token_type_ids=policy.is_visual(ids).int(),
            **inputs,
            max_new_tokens=sampling.max_tokens,
            do_sample=False,
            suppress_tokens=policy.banned_ids.tolist(),
            eos_token_id=list(policy.eos_token_ids),
        )
        assert group.completions[0].token_ids_T.tolist() == written[0, prompt.num_tokens :].tolist()


@torch.no_grad()
def test_the_rows_behind_the_last_layers_attention_are_finished_as_the_model_finishes_them(
    policy: Policy, groups: list[RolloutGroup]
):
    """What measures the gradients of single tokens relies on it."""
    features = policy.encode_video([group.prompt for group in groups])
    prompts = [apply_view(Factual(), policy, g.prompt, f, 0) for g, f in zip(groups, features, strict=True)]
    row = pack(groups, prompts)
    with watching_last_layer(policy) as watched:
        *_, hidden_MD = policy.score_row(row, 1.0, 16, entropy=False)
    attended, residual = (rows[row.predictors_M] for rows in watched)
    torch.testing.assert_close(policy.finish_rows(attended, residual), hidden_MD, rtol=0, atol=1e-5)


def test_three_steps_of_video_ktr_by_the_models_path_alone(
    folder: Path, tmp_path: Path, ktr_folders: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ktr.training.run.write_report", lambda _: None)  # its figures would take most of the time
    columns = three_steps(folder, tmp_path, ktr_folders)
    assert "attribution/visual/score" in columns and "grad/norm/selected" in columns
