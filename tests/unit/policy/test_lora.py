"""Every option of PEFT's LoRA is honoured wherever a policy's weights go, or refused."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from ktr.attribution.views import Factual
from ktr.errors import ConfigError, MissingModel
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.scoring.reference import Reference
from ktr.scoring.scorer import GroupScorer
from tests.tiny_policy import fresh_policy, random_group

BASE = {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj", "qkv"]}
# option → its value, and what else it needs
TAKEN: dict[str, Any] = {
    "r": {"r": 3},
    "lora_alpha": {"lora_alpha": 5},
    "lora_dropout": {"lora_dropout": 0.5},
    "target_modules": {"target_modules": "all-linear"},
    "exclude_modules": {"exclude_modules": ["down_proj"]},
    "modules_to_save": {"modules_to_save": ["merger", "norm"]},
    "layers_to_transform": {"layers_to_transform": [1], "target_modules": ["q_proj"]},
    "layers_pattern": {"layers_pattern": "layers", "layers_to_transform": [1], "target_modules": ["q_proj"]},
    "rank_pattern": {"rank_pattern": {"q_proj": 4}},
    "alpha_pattern": {"alpha_pattern": {"q_proj": 3}},
    "use_rslora": {"use_rslora": True},
    "use_dora": {"use_dora": True},
    "lora_bias": {"lora_bias": True, "target_modules": ["q_proj", "v_proj"]},
    "init_lora_weights": {"init_lora_weights": "gaussian"},
    "task_type": {"task_type": "CAUSAL_LM"},
    "peft_type": {"peft_type": "LORA"},
}
REFUSED: dict[str, Any] = {
    "auto_mapping": {"base_model_class": "Any"},
    "peft_version": "0.21",
    "base_model_name_or_path": "elsewhere",
    "revision": "main",
    "inference_mode": True,
    "fan_in_fan_out": True,
    "bias": "lora_only",
    "megatron_config": {"tensor_model_parallel_size": 1},
    "megatron_core": "other.core",
    "trainable_token_indices": [1, 2],
    "loftq_config": {"loftq_bits": 4},
    "eva_config": {"rho": 2.0},
    "corda_config": {"corda_method": "ipm"},
    "lora_ga_config": {"direction": "ArB2r"},
    "velora_config": {"num_groups": 2},
    "alora_invocation_tokens": [1],
    "use_qalora": True,
    "qalora_group_size": 8,
    "monteclora_config": {"num_samples": 2},
    "layer_replication": [[0, 2], [1, 3]],
    "runtime_config": {"ephemeral_gpu_offload": True},
    "target_parameters": ["q_proj.weight"],
    "use_bdlora": {"nblocks": 1},
    "arrow_config": {"top_k": 1},
    "kasa_config": {"beta": 1},
    "ensure_weight_tying": True,
}
MORE_TAKEN: list[dict[str, Any]] = [
    {"init_lora_weights": False},
    {"init_lora_weights": "orthogonal"},
    {"use_dora": True, "use_rslora": True, "rank_pattern": {"v_proj": 1}, "target_modules": "all-linear"},
    {"target_modules": r".*language_model\.layers\.[01]\..*(up|gate)_proj"},
    {"target_modules": ["patch_embed.proj", "q_proj"]},
    {"exclude_modules": r".*visual.*"},
]
OF_UNTIED: list[dict[str, Any]] = [
    {"target_modules": ["embed_tokens", "q_proj"]},
    {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True},
    {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["embed_tokens", "lm_head"]},
]


@pytest.fixture(scope="session")
def untied_folder(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untied")
    policy = QwenVLPolicy(policy_folder)
    model = policy.model
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach() * 1.5)
    policy.save(folder)
    return folder


def move(policy: QwenVLPolicy) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def logps(policy: QwenVLPolicy) -> Tensor:
    group = random_group(policy.eval(), 0, [4, 3])
    return GroupScorer().score(policy, [group], policy.encode_video([group.prompt]), Factual(), [0])[0].logps_GT


def reference_logps(policy: QwenVLPolicy) -> Tensor:
    group = random_group(policy, 0, [4, 3])
    with torch.no_grad():
        features = policy.encode_video([group.prompt])
    return Reference(policy, lambda: policy).logps(GroupScorer(), [group], features)[0]


def check_all_places(path: Path, options: dict[str, Any], tmp_path: Path, **settings: Any) -> None:
    """Log-probs of the live, pushed, exported and resumed policy, and those of the reference, and a merged start's."""
    start = logps(fresh_policy(path))
    live = QwenVLPolicy(path, lora=BASE | options, **settings)
    move(live)
    expected, trained = logps(live), {n for n, p in live.named_parameters() if p.requires_grad}
    assert (expected - start).abs().max() > 0.01, "the adapters do something"

    torch.testing.assert_close(reference_logps(live), start, atol=1e-5, rtol=0)
    assert torch.equal(logps(live), expected), "the reference left the policy as it was"
    assert trained == {n for n, p in live.named_parameters() if p.requires_grad}

    pushed = fresh_policy(path)
    pushed.model.load_state_dict(dict(live.named_weights()))
    untouched = fresh_policy(path)
    untouched.model.load_state_dict(dict(live.named_weights(merge_adapters=False)))
    live.save(tmp_path / "exported", merge_adapters=True)
    live.save(tmp_path / "checkpoint")
    resumed = QwenVLPolicy(path, lora=BASE | options, **settings)
    resumed.load_trained(tmp_path / "checkpoint")
    begun = QwenVLPolicy(path, adapter=tmp_path / "checkpoint", lora={"r": 2, "target_modules": ["o_proj"]})
    for policy in (pushed, QwenVLPolicy(tmp_path / "exported"), resumed, begun):
        torch.testing.assert_close(logps(policy), expected, atol=5e-4, rtol=0)
    torch.testing.assert_close(reference_logps(begun), expected, atol=5e-4, rtol=0)
    torch.testing.assert_close(logps(untouched), start, atol=0, rtol=0)
    assert torch.equal(logps(live), expected), "nothing that was done with it changed the policy"


def test_every_option_of_peft_has_a_case():
    assert TAKEN.keys() | REFUSED.keys() == {field.name for field in fields(LoraConfig)}
    assert not TAKEN.keys() & REFUSED.keys()


@pytest.mark.parametrize("options", [*TAKEN.values(), *MORE_TAKEN], ids=str)
def test_an_accepted_option_is_honoured_wherever_the_weights_go(policy_folder, tmp_path, options):
    check_all_places(policy_folder, options, tmp_path)


@pytest.mark.parametrize("options", OF_UNTIED, ids=str)
def test_embeddings_and_a_head_of_their_own_are_honoured(untied_folder, tmp_path, options):
    check_all_places(untied_folder, options, tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_every_other_option_is_refused_by_its_name(policy_folder, name):
    with pytest.raises(ConfigError, match=rf"model\.lora\.{name}="):
        QwenVLPolicy(policy_folder, lora=BASE | {name: REFUSED[name]})


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "eva", "corda", "loftq", "lora_ga", "mica"])
def test_a_start_that_changes_the_base_is_refused(policy_folder, init):
    with pytest.raises(ConfigError, match=r"init_lora_weights=.*choose from true, false, gaussian, orthogonal"):
        QwenVLPolicy(policy_folder, lora=BASE | {"init_lora_weights": init})


@pytest.mark.parametrize(
    "options, said",
    [
        ({"target_modules": ["embed_tokens"]}, "tie_word_embeddings"),
        ({"target_modules": ["lm_head"]}, "lm_head"),
        ({"modules_to_save": ["lm_head"]}, "tie_word_embeddings"),
        ({"lora_bias": True}, "down_proj has no bias"),
        ({"target_modules": ["nowhere"]}, "nowhere"),
        ({"r": 0}, "should be"),
        ({"use_dora": True, "target_modules": ["norm1"]}, "RMSNorm"),
        ({"use_dora": True, "lora_bias": True, "target_modules": ["q_proj"]}, "not supported for DoRA"),
        ({"target_modules": 5}, r"model\.lora"),
    ],
)
def test_a_layer_that_cannot_have_an_adapter_is_named(policy_folder, options, said):
    with pytest.raises(ConfigError, match=said):
        QwenVLPolicy(policy_folder, lora=BASE | options)


def test_the_head_gets_no_adapter_where_it_is_its_own_either(untied_folder):
    with pytest.raises(ConfigError, match=r"lm_head is the head.*modules_to_save"):
        QwenVLPolicy(untied_folder, lora=BASE | {"target_modules": ["lm_head"]})


@pytest.mark.parametrize("targets", [["q_proj", "down_proj", "qkv"], "all-linear", r".*\.(down_proj|qkv)"], ids=str)
@pytest.mark.parametrize("excluded", [None, ["o_proj"], r".*layers\.2.*"], ids=str)
def test_what_is_frozen_gets_no_adapter(policy_folder, targets, excluded):
    options = {"target_modules": targets, "exclude_modules": excluded}
    policy = QwenVLPolicy(policy_folder, freeze=["vision"], lora=BASE | options)
    trained = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert trained and not any("visual.blocks" in name or "patch_embed" in name for name in trained)
    assert any("merger" in name for name in trained) == (targets == "all-linear")
    assert not any("layers.2" in name for name in trained) or excluded != r".*layers\.2.*"
    assert not any("o_proj" in name for name in trained) or excluded != ["o_proj"]


def test_a_frozen_tower_is_honoured_wherever_the_weights_go(policy_folder, tmp_path):
    check_all_places(policy_folder, {"target_modules": "all-linear"}, tmp_path, freeze=["vision", "merger"])


@pytest.mark.parametrize("whole", ["merger", "visual", "merger.mlp"])
def test_a_frozen_part_cannot_be_trained_whole(policy_folder, whole):
    with pytest.raises(ConfigError, match=rf"modules_to_save: {whole} .*model\.freeze"):
        QwenVLPolicy(policy_folder, freeze=["merger"], lora=BASE | {"modules_to_save": [whole]})


@pytest.mark.parametrize(
    "options, what",
    [
        ({}, None),
        ({"use_rslora": True, "rank_pattern": {"q_proj": 4}}, None),
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "lora_bias"),
        ({"target_modules": ["patch_embed.proj"]}, "not a linear layer"),
        ({"modules_to_save": ["merger"]}, "all of model.visual.merger"),
    ],
    ids=str,
)
def test_what_an_engine_cannot_load_beside_the_base_is_known(policy_folder, options, what):
    said = QwenVLPolicy(policy_folder, lora=BASE | options).only_merged
    assert said is None if what is None else what in str(said)


def test_dropout_is_off_where_log_probs_are_compared(policy_folder):
    policy = QwenVLPolicy(policy_folder, lora=BASE | {"lora_dropout": 0.5})
    move(policy)
    expected = logps(policy)
    group = random_group(policy, 0, [4, 3])
    with torch.no_grad():
        features = policy.encode_video([group.prompt])

    def while_training() -> Tensor:
        return GroupScorer().score(policy.train(), [group], features, Factual(), [0])[0].logps_GT

    assert not torch.allclose(while_training(), expected, atol=1e-3), "in supervised training it acts"
    policy.switch_off_dropout()
    torch.testing.assert_close(while_training(), expected)


def test_an_adapter_of_another_model_is_named(policy_folder, tmp_path):
    trained = QwenVLPolicy(policy_folder, lora=BASE)
    trained.save(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "moved")
    with pytest.raises(MissingModel, match=r"no adapter_model\.safetensors in"):
        QwenVLPolicy(policy_folder, adapter=tmp_path)
    (tmp_path / "moved").rename(tmp_path / "adapter_model.safetensors")
    config = (tmp_path / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(config.replace('"r": 2', '"r": 3'))
    with pytest.raises(ConfigError, match="not one of this model.*size mismatch"):
        QwenVLPolicy(policy_folder, adapter=tmp_path)
    with pytest.raises(MissingModel, match=r"holds an adapter: set model\.adapter"):
        QwenVLPolicy(tmp_path)


def test_an_adapter_of_the_older_names_is_read(policy_folder, tmp_path):
    """Before transformers 4.52 the language model's layers were model.layers, and the tower was visual."""
    from safetensors.torch import load_file, save_file

    trained = QwenVLPolicy(policy_folder, lora=BASE)
    move(trained)
    trained.save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    renamed = {
        name.replace("model.model.language_model.", "model.model.").replace("model.model.visual.", "model.visual."): x
        for name, x in load_file(path).items()
    }
    save_file(renamed, path, metadata={"format": "pt"})
    torch.testing.assert_close(logps(QwenVLPolicy(policy_folder, adapter=tmp_path)), logps(trained), atol=1e-4, rtol=0)


def test_an_exported_policy_is_transformers_own(policy_folder, tmp_path):
    trained = QwenVLPolicy(policy_folder, lora=BASE | {"use_dora": True})
    move(trained)
    trained.save(tmp_path, merge_adapters=True)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path)
    for name, tensor in trained.named_weights():
        torch.testing.assert_close(model.state_dict()[name], tensor)
