"""The plan counts what torch's FlopCounterMode counts of the passes that ktr runs, to the last product.

On a CPU the fused attention has another name than on a GPU: the counter is told its formula. It doesn't see products
that are added in place, which the head's gradient is made of: those are added to what it says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.small_model import random_group, write_model_folder
from ktr.attribution.views import Factual
from ktr.plan.architecture import read_architecture
from ktr.plan.flops import Flops
from ktr.plan.parameters import trained
from ktr.plan.settings import Span
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.scoring.packing import pack
from ktr.scoring.views import apply_view
from ktr.types import Medium, RolloutGroup
from tests.tiny_families import save_family
from tests.tiny_policy import NUM_VISUAL
from tests.tiny_policy import random_group as random_group_of
from tests.unit.plan.matched_gradient import gradient_of_all

MEDIA = (Medium("video", (2, 20, 24), 1.0),)
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
aten: Any = torch.ops.aten
pytestmark = pytest.mark.usefixtures("mask_for_a_causal_bias")


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


class Counter(FlopCounterMode):
    def __init__(self) -> None:
        fused = aten._scaled_dot_product_flash_attention_for_cpu
        formulas = {fused: _attention, aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward}
        super().__init__(display=False, custom_mapping=formulas)


def counted(policy: Policy, groups: Sequence[RolloutGroup], features: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Operations of a packed row's forward with entropies, and of its backward."""
    views = [apply_view(Factual(), policy, g.prompt, rows, 0) for g, rows in zip(groups, features, strict=True)]
    row = pack(groups, views)
    policy.train()
    with Counter() as counter:
        logps_M, _, _ = policy.score_row(row, 1.0, 48, entropy=True)
        forward = counter.get_total_flops()
        logps_M.sum().backward()
    weight = policy.model.lm_head.weight
    unseen = 2 * len(row.targets_M) * weight.numel() if weight.requires_grad else 0
    return forward, counter.get_total_flops() - forward + unseen


def spans(groups: Sequence[RolloutGroup]) -> list[Span]:
    of = [(g.prompt.num_tokens, [len(c.token_ids_T) for c in g.completions]) for g in groups]
    return [Span(prompt, len(lengths), lengths[0]) for prompt, lengths in of]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("model"), hidden=256, layers=3, vision_hidden=64, vision_layers=3)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("freeze", "lora"), [([], None), (["vision", "merger", "head"], None), ([], LORA)])
@pytest.mark.parametrize("lengths", [[[24] * 4, [16] * 3], [[40]]])
def test_a_packed_row_forward_and_backward(
    folder: Path, lengths: list[list[int]], freeze: list[str], lora: dict[str, Any] | None, checkpointing: bool
):
    groups = [random_group(of_group, MEDIA, seed=i) for i, of_group in enumerate(lengths)]
    policy = load_policy(folder, freeze=freeze, lora=lora, gradient_checkpointing=checkpointing)
    flops = Flops(read_architecture(folder), trained(read_architecture(folder), freeze, lora))
    planned = spans(groups)
    backward = flops.backward(planned, checkpointing) + flops.recomputed(planned) * checkpointing
    with torch.no_grad():
        features = policy.encode_video([group.prompt for group in groups])
    features = [rows.requires_grad_(policy.trains_vision) for rows in features]
    assert counted(policy, groups, features) == (flops.forward(planned, entropy=True), backward)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("freeze", "lora"),
    [(["vision", "merger"], None), (["vision", "merger", "head"], None), (["vision", "merger"], LORA), ([], None)],
)
def test_the_gradient_of_all_tokens_of_a_matched_update(
    folder: Path, freeze: list[str], lora: dict[str, Any] | None, checkpointing: bool
):
    if checkpointing and not freeze:
        pytest.skip("a checkpointed tower computes its blocks again, which is not planned")
    group = random_group([24] * 4, MEDIA, seed=0)
    policy = load_policy(folder, freeze=freeze, lora=lora, gradient_checkpointing=checkpointing).train()
    with torch.no_grad():
        (features_NF,) = policy.encode_video([group.prompt])
    with Counter() as counter:
        gradient_of_all(policy, group, features_NF, 48)
    model = read_architecture(folder)
    flops, planned = Flops(model, trained(model, freeze, lora)), spans([group])
    grids = [medium.grid_thw for medium in group.prompt.media]
    of_tower = (flops.tower(grids) + flops.tower_backward(grids)) * policy.trains_vision
    weight = policy.model.lm_head.weight
    unseen = 2 * 2 * planned[0].targets * weight.numel() if weight.requires_grad else 0  # of both backward passes
    again = flops.recomputed(planned) * checkpointing
    assert counter.get_total_flops() + unseen == flops.of_all_tokens(planned) + again + of_tower


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_packed_row_of_each_family(tmp_path: Path, family: str):
    policy = load_policy(save_family(family, tmp_path / "model"))
    model = read_architecture(policy.path)
    flops = Flops(model, trained(model))
    group = random_group_of(cast(QwenVLPolicy, policy), 0, lengths=[12, 12, 12])
    features = torch.randn(NUM_VISUAL, model.features, requires_grad=True)
    assert counted(policy, [group], [features]) == (
        flops.forward(spans([group]), entropy=True),
        flops.backward(spans([group])),
    )


@pytest.mark.parametrize("freeze", [[], ["vision"], ["vision", "merger"]])
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_the_tower_forward_and_backward(tmp_path: Path, family: str, freeze: list[str]):
    policy = load_policy(save_family(family, tmp_path / "model"), freeze=freeze)
    model = read_architecture(policy.path)
    flops = Flops(model, trained(model, freeze))
    grids = [(2, 20, 24), (1, 12, 8)]
    pixels = torch.randn(sum(t * h * w for t, h, w in grids), model.tower.patch_numbers)
    with Counter() as counter:
        features = policy.run_tower(pixels, grids)
        forward = counter.get_total_flops()
        if policy.trains_vision:
            features.sum().backward()
    assert forward == flops.tower(grids)
    assert counter.get_total_flops() - forward == flops.tower_backward(grids)
