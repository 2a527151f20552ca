"""Loading, freezing, saving and the reference of a policy."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from ktr.attribution.views import Factual
from ktr.errors import ConfigError, MissingModel
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.scoring.reference import Reference
from ktr.scoring.scorer import GroupScorer
from tests.tiny_policy import fresh_policy, random_group, random_prompt


def test_a_folder_that_is_not_there_is_named_with_the_remedy(tmp_path):
    with pytest.raises(MissingModel, match=r"no model at .*nowhere.*set model\.path"):
        QwenVLPolicy(tmp_path / "nowhere")


def changed(policy_folder: Path, folder: Path, drop: str = "", cut: str = "", **about: Any) -> Path:
    """A copy of a policy's folder without some weights, with others cut short, and ``about`` in a file of JSON."""
    shutil.copytree(policy_folder, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not drop or drop not in name}
    kept |= {name: tensor[:-1].contiguous() for name, tensor in kept.items() if cut and cut in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    for name, values in about.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return folder


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"drop": "layers.1.mlp."}, r"not hold 3 of the weights .*: \S*layers\.1\.mlp\.down_proj\.weight is not there"),
        ({"drop": "embed_tokens"}, r"not hold 2 of the weights .*: lm_head\.weight is not there; put"),  # they are one
        ({"cut": "layers.0.input_layernorm"}, r"not hold 1 of .*layernorm\.weight is \[127\], not \[128\]; put"),
    ],
    ids=str,
)
def test_weights_that_a_folder_lacks_are_named_and_not_drawn(policy_folder, policy, tmp_path, missing, said):
    folder = changed(policy_folder, tmp_path / "torn", **missing)
    for load in (QwenVLPolicy, policy.load_trained):
        with pytest.raises(MissingModel, match=rf"^{folder}: its files do {said}") as caught:
            load(folder)
        assert "\n" not in str(caught.value)


def test_a_tied_head_need_not_lie_in_the_folder(policy_folder, tmp_path):
    found = QwenVLPolicy(changed(policy_folder, tmp_path / "tied", drop="lm_head")).model
    assert found.lm_head.weight is found.get_input_embeddings().weight


@pytest.mark.parametrize(
    "flags",
    [
        {"temperature": 1e-6},
        {"do_sample": False, "top_k": 1, "top_p": 0.001, "min_p": 0.1, "typical_p": 0.5, "epsilon_cutoff": 0.1},
        {"pad_token_id": -1, "early_stopping": True, "length_penalty": 2.0, "output_scores": True},
    ],
    ids=str,
)
def test_a_policy_is_saved_whatever_generation_flags_its_folder_has(policy_folder, tmp_path, flags):
    folder = changed(policy_folder, tmp_path / "start", generation_config={**flags, "repetition_penalty": 1.05})
    lora = {"r": 2, "target_modules": ["q_proj"]}
    plain, adapted = QwenVLPolicy(folder), QwenVLPolicy(folder, lora=lora)
    plain.save(tmp_path / "whole")
    adapted.save(tmp_path / "merged", merge_adapters=True)
    adapted.save(tmp_path / "adapters")
    for name in ("whole", "merged", "adapters"):
        found = GenerationConfig.from_pretrained(tmp_path / name)
        assert found.repetition_penalty == 1.05 and found.eos_token_id == plain.model.generation_config.eos_token_id
        assert not any(getattr(found, flag) for flag in flags)


def test_flags_of_sampling_are_kept(policy_folder, tmp_path):
    flags = {"do_sample": True, "temperature": 1e-6, "top_k": 1}
    QwenVLPolicy(changed(policy_folder, tmp_path / "start", generation_config=flags)).save(tmp_path / "saved")
    found = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert {flag: found[flag] for flag in flags} == flags


def test_an_adapter_beside_the_model_is_refused(policy_folder, tmp_path):
    folder = changed(policy_folder, tmp_path / "both")
    QwenVLPolicy(folder, lora={"r": 2, "target_modules": ["q_proj"]}).save_adapters(folder)
    with pytest.raises(ConfigError, match=r"^model\.path=.*both: an adapter lies beside the model"):
        QwenVLPolicy(folder)


def test_quantized_weights_are_refused(policy_folder, tmp_path):
    folder = changed(policy_folder, tmp_path / "fp8", config={"quantization_config": {"quant_method": "fp8"}})
    with pytest.raises(ConfigError, match=r"^model\.path=.*fp8: its weights are quantized"):
        QwenVLPolicy(folder)


def trained_parts(policy: QwenVLPolicy) -> set[str]:
    names = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    parts = {"patch_embed": "vision", "blocks": "vision", "merger": "merger", "embed_tokens": "embeddings"}
    return {next((part for word, part in parts.items() if word in name), "language") for name in names}


@pytest.mark.parametrize(
    "freeze, trained",
    [
        ((), {"vision", "merger", "language", "embeddings"}),
        (("vision",), {"merger", "language", "embeddings"}),
        (("vision", "merger"), {"language", "embeddings"}),
        (("vision", "merger", "embeddings"), {"language"}),
    ],
)
def test_freezing_is_by_part(policy_folder, freeze, trained):
    assert trained_parts(QwenVLPolicy(policy_folder, freeze=freeze)) == trained


def test_an_unknown_part_is_named(policy_folder):
    with pytest.raises(ConfigError, match="tower"):
        QwenVLPolicy(policy_folder, freeze=("tower",))


@pytest.mark.parametrize("lora", [None, {"r": 2, "target_modules": ["q_proj"], "init_lora_weights": False}])
def test_saved_weights_come_back_to_the_bit(policy_folder, tmp_path, lora):
    trained = QwenVLPolicy(policy_folder, lora=lora)
    with torch.no_grad():
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    trained.save(tmp_path)
    again = QwenVLPolicy(policy_folder, lora=lora)
    again.load_trained(tmp_path)
    pairs = zip(trained.named_weights(), again.named_weights(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)


def test_a_saved_folder_is_an_ordinary_model_folder(policy, tmp_path):
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    policy.save(tmp_path)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(model.lm_head.weight, policy.model.lm_head.weight)
    assert AutoProcessor.from_pretrained(tmp_path).tokenizer.get_vocab() == policy.tokenizer.get_vocab()


def test_merged_adapters_are_the_policy_that_was_trained(policy_folder, tmp_path):
    lora = {"r": 2, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    trained = QwenVLPolicy(policy_folder, lora=lora)
    trained.save(tmp_path, merge_adapters=True)
    merged = QwenVLPolicy(tmp_path)
    groups, scorer = [random_group(trained, 0, [4, 3])], GroupScorer()
    scores = []
    for policy in (trained, merged):
        with torch.no_grad():
            features = policy.encode_video([groups[0].prompt])
        scores.append(scorer.score(policy, groups, features, Factual(), [0])[0].logps_GT)
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=0)


def test_a_checkpoint_without_weights_is_named(policy, tmp_path):
    with pytest.raises(MissingModel, match="not a checkpoint"):
        policy.load_trained(tmp_path)


def test_given_features_stand_in_for_the_tower_only_without_gradient_and_inside(policy):
    prompt = random_prompt(policy, 0)
    marked = torch.full((24, 128), 7.0)
    with policy.reusing_features([prompt], [marked]):
        with torch.no_grad():
            assert torch.equal(policy.encode_video([prompt])[0], marked)
        assert policy.encode_video([prompt])[0].requires_grad
    with torch.no_grad():
        assert not torch.equal(policy.encode_video([prompt])[0], marked)


def test_the_reference_stays_while_the_policy_moves(policy_folder):
    policy = fresh_policy(policy_folder)
    reference = Reference(policy, lambda: fresh_policy(policy_folder))
    groups = [random_group(policy, 0, [4, 3])]
    scorer = GroupScorer()

    def logps():
        with torch.no_grad():
            return reference.logps(scorer, groups, policy.encode_video([groups[0].prompt]))[0]

    before = logps()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    assert torch.equal(before, logps())


def test_a_reference_without_kl_loads_no_second_copy(policy):
    def fail() -> QwenVLPolicy:
        raise AssertionError("loaded")

    assert "frozen" not in vars(Reference(policy, fail))


def test_with_adapters_the_reference_is_the_policy_without_them(policy_folder):
    policy = QwenVLPolicy(
        policy_folder, lora={"r": 2, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    )
    base = fresh_policy(policy_folder)
    groups, scorer = [random_group(policy, 0, [4, 3])], GroupScorer()
    with torch.no_grad():
        features = base.encode_video([groups[0].prompt])
        reference = Reference(policy, lambda: base).logps(scorer, groups, features)[0]
        plain = Reference(base, lambda: base).logps(scorer, groups, features)[0]
    torch.testing.assert_close(reference, plain, atol=1e-6, rtol=0)


def test_an_engine_gets_the_weights_of_a_plain_model_with_adapters_merged_in_or_left_out(policy_folder):
    """Names as without adapters; merged in, a plain model with these weights gives the policy's log-probs."""
    lora = {"r": 2, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False}
    policy, plain = QwenVLPolicy(policy_folder, lora=lora).eval(), fresh_policy(policy_folder).eval()
    base = dict(plain.named_weights())
    left_out = policy.named_weights(merge_adapters=False)
    assert {name: tensor.tolist() for name, tensor in left_out} == {n: tensor.tolist() for n, tensor in base.items()}

    weights = policy.named_weights()
    assert [name for name, _ in weights] == [name for name, _ in weights], "it can be read again"
    plain.model.load_state_dict(dict(weights))
    assert policy.lora_rank == 2 and plain.lora_rank == 0
    groups, scorer = [random_group(policy, 0, [4, 3])], GroupScorer()
    with torch.no_grad():
        features = [model.encode_video([groups[0].prompt]) for model in (policy, plain)]
        ours, theirs = (
            scorer.score_pass(model, groups, f, views=[Factual()], seeds=[0], entropy=False)[0].logps_GT
            for model, f in zip((policy, plain), features, strict=True)
        )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def saved_bytes(policy: QwenVLPolicy) -> int:
    """What a pass of the tower keeps for backward."""
    kept: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.data_ptr(), x.nbytes) and x, lambda x: x):
        policy.encode_video([random_prompt(policy, 0)])
    return sum(kept.values())


def test_a_trained_tower_is_checkpointed_whatever_mode_the_step_before_left(policy_folder):
    policy, plain = (QwenVLPolicy(policy_folder, gradient_checkpointing=given) for given in (True, False))
    first = saved_bytes(policy.train())
    assert saved_bytes(policy.eval()) == first < saved_bytes(plain.train())
