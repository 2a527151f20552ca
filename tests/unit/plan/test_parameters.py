"""Names, shapes and bytes are those of transformers' own classes, built on the meta device."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from omegaconf import OmegaConf

from ktr.config.composing import compose
from ktr.plan.architecture import Architecture, architecture, read_architecture
from ktr.plan.memory import memory
from ktr.plan.options import Options, read_card
from ktr.plan.parameters import parameters, trained
from ktr.plan.settings import read_settings
from ktr.policy.families import load_policy
from ktr.training.matched_updates import MatchedAdamW, MatchedAdamWCosine
from tests.tiny_families import CLASSES, FAMILIES, config, save_family, tokenizer

TOTALS = {  # of the published folders' weights
    "Qwen2-VL-2B": 2_208_985_600,
    "Qwen2-VL-7B": 8_291_375_616,
    "Qwen2.5-VL-3B": 3_754_622_976,
    "Qwen2.5-VL-7B": 8_292_166_656,
    "Qwen3-VL-2B": 2_127_532_032,
    "Qwen3-VL-4B": 4_437_815_808,
    "Qwen3-VL-8B": 8_767_123_696,
}
SOME = {"r": 4, "target_modules": ["q_proj", "v_proj", "qkv"], "rank_pattern": {"v_proj": 2}}


def of(family: str, **changes: Any) -> tuple[Any, Architecture]:
    """transformers' model of a tiny config without memory, and its numbers."""
    made = config(family, tokenizer().get_vocab())
    for key, value in changes.items():
        setattr(made, key, value)
        setattr(made.text_config, key, value)
    with torch.device("meta"):
        model = getattr(transformers, CLASSES[family][1])(made)
    return model, architecture(family, json.loads(made.to_json_string(use_diff=False)))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_its_name_and_shape(family: str, tied: bool):
    model, numbers = of(family, tie_word_embeddings=tied)
    planned = {parameter.name: parameter.shape for parameter in parameters(numbers)}
    assert planned == {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", TOTALS)
def test_a_published_model_has_as_many_parameters_as_its_weights(name: str):
    assert sum(p.count for p in parameters(read_architecture(Path(f"{name}-Instruct")))) == TOTALS[name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: save_family(family, root / family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "freeze", "lora"),
    [
        ("float32", [], None),
        ("bfloat16", ["vision"], None),
        ("float32", ["vision", "merger"], None),
        ("float32", ["embeddings"], None),
        ("float32", ["head", "language"], None),
        ("float32", [], {"r": 8, "target_modules": "all-linear"}),
        ("bfloat16", ["vision"], SOME),
        ("float32", ["vision"], {"r": 4, "target_modules": ["o_proj"], "use_dora": True, "layers_to_transform": [1]}),
        ("float32", [], {"target_modules": r".*layers\.0.*_proj", "exclude_modules": ["o_proj"]}),
        ("float32", [], {"target_modules": ["q_proj"], "modules_to_save": ["merger"]}),
    ],
)
def test_bytes_of_weights_gradients_and_optimizer_are_those_of_the_policy(
    folders: dict[str, Path], family: str, dtype: str, freeze: Sequence[str], lora: Mapping[str, Any] | None
):
    if family == "qwen3_vl_moe" and lora and not isinstance(lora["target_modules"], list):
        pytest.skip("an expression finds fused experts, which take no adapters")
    folder = folders[family]
    policy = load_policy(folder, dtype=dtype, freeze=freeze, lora=lora)
    learned = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(learned)
    optimizer.step()
    matched, _ = MatchedAdamWCosine(lr=1e-3, total_steps=1).build(policy)
    assert isinstance(matched, MatchedAdamW)
    matched.match({parameter: torch.ones_like(parameter) for parameter in learned}, max_norm=1.0)
    matched.step()

    model = read_architecture(folder)
    planned = trained(model, freeze, lora)
    size = 2 if dtype == "bfloat16" else 4
    of_planned = [parameter.count * size for parameter in planned]
    of_trained = [parameter.count * size for parameter in planned if parameter.is_trained]
    assert sum(of_planned) == sum(p.nbytes for p in policy.parameters())
    assert sum(of_trained) == sum(parameter.grad.nbytes for parameter in learned if parameter.grad is not None)
    composed: Any = OmegaConf.to_container(compose("train", []), resolve=True)
    run = read_settings(composed, model, Options())
    for built in (optimizer, matched):
        run = replace(run, dtype=dtype, is_matched=built is matched)
        states = [value for state in built.state.values() for value in state.values() if value.ndim]
        resident = memory(model, planned, run, read_card("h100"), Options()).resident
        assert resident["optimizer states"] == sum(state.nbytes for state in states)
