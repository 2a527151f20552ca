"""A model folder that ktr cannot use is one sentence before any work, which names the families that it has."""

import json
import shutil
from pathlib import Path

import pytest

from ktr.config.command_line import check_command_line
from ktr.config.composing import compose
from ktr.config.model_folder import families, family_of, require_adapter, require_model
from ktr.errors import ConfigError, MissingModel

FAMILIES = "qwen2_5_vl, qwen2_vl, qwen3_vl, qwen3_vl_moe"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def write_config(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)


def test_a_folder_below_the_users_own_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = compose("attribute", ["model.path='~/model'", "compare='~/other'"])
    assert (config.model.path, config.compare) == (str(folder), str(tmp_path / "other"))


def test_a_family_is_a_folder_of_policies_named_as_transformers_names_it():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert ", ".join(families()) == FAMILIES
    assert set(families()) <= set(CONFIG_MAPPING_NAMES)


def test_the_family_is_read_from_the_folder_alone(folder: Path):
    write_config(folder, json.dumps({"model_type": "qwen3_vl"}))
    assert family_of(folder) == "qwen3_vl"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"model_type": "qwen2_5_omni"}', r"the nearest is qwen2_5_vl"),
        ('{"model_type": "qwen2"}', r"the nearest is qwen2_vl"),
        ('{"model_type": "llava_onevision"}', r"has the families .*; choose a model of one of them"),
        ('{"model_type": "llava"}', "has model_type 'llava', and ktr has the families " + FAMILIES),
        ('{"model_type": "qwen3_5_vl"}', r"the nearest is qwen2_5_vl"),
        ('{"model_type": "qwen3_vl_text"}', r"the nearest is qwen3_vl"),
        ('{"model_type": ["qwen3_vl"]}', "has model_type"),
        ("{}", "has no model_type"),
        ("[]", "has no model_type"),
        ("{", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_family_that_ktr_does_not_have_is_named_with_those_that_it_has(folder: Path, content: str, said: str):
    write_config(folder, content)
    with pytest.raises(ConfigError, match=said) as caught:
        family_of(folder)
    assert str(caught.value).startswith(f"model.path={folder}: ") and "\n" not in str(caught.value)


def test_a_family_that_ktr_does_not_have_stops_the_command_line(folder: Path):
    write_config(folder, '{"model_type": "llava"}')
    with pytest.raises(ConfigError, match=rf"^model\.path={folder}: .* model_type 'llava'"):
        check_command_line("train", [f"model.path={folder}"])


def test_a_class_of_ones_own_may_read_any_family(folder: Path):
    write_config(folder, '{"model_type": "llava"}')
    check_command_line("train", ["model._target_=ktr.policy.qwen2_5_vl.policy.QwenVLPolicy", f"model.path={folder}"])


def test_policies_of_two_families_are_not_compared(folder: Path, tiny_model: Path, tmp_path: Path):
    write_config(folder, '{"model_type": "qwen3_vl"}')
    video = tmp_path / "clip.mp4"
    video.touch()
    with pytest.raises(ConfigError, match=r"compare=.* is of the family qwen3_vl and model\.path=.* of qwen2_5_vl"):
        check_command_line(
            "attribute", [f"model.path={tiny_model}", f"compare={folder}", f"media={video}", "question=what ?"]
        )


def adapter_of(folder: Path, base: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").touch()
    return folder


def check_adapter(model: Path, adapter: Path) -> None:
    require_adapter(adapter, model, family_of(model))


@pytest.mark.parametrize("base", ["Qwen/Qwen2-VL-7B-Instruct", "models/Qwen3-VL-30B-A3B-Instruct"])
def test_an_adapter_of_another_family_is_refused(tiny_model: Path, folder: Path, tmp_path: Path, base: str):
    adapter = adapter_of(tmp_path / "adapter", base)
    with pytest.raises(ConfigError, match=rf"model\.adapter=.* {base}, a model of .* is one of qwen2_5_vl; choose"):
        check_adapter(tiny_model, adapter)
    write_config(folder, '{"model_type": "llava_onevision"}')
    with pytest.raises(ConfigError, match=r"a model of the family llava_onevision, and .* qwen2_5_vl; choose"):
        check_adapter(tiny_model, adapter_of(tmp_path / "local", str(folder)))


@pytest.mark.parametrize(
    "base", [None, "somewhere/else", "Qwen/Qwen2.5-VL-7B-Instruct", "Video-R1/Qwen2.5-VL-7B-COT-SFT"]
)
def test_an_adapter_of_the_same_or_an_unknown_base_is_taken(tiny_model: Path, tmp_path: Path, base: str | None):
    check_adapter(tiny_model, adapter_of(tmp_path / "adapter", base))
    check_adapter(tiny_model, adapter_of(tmp_path / "local", str(tiny_model)))


def test_an_adapter_of_experts_is_not_told_from_one_without_by_its_name(folder: Path, tmp_path: Path):
    write_config(folder, '{"model_type": "qwen3_vl_moe"}')
    check_adapter(folder, adapter_of(tmp_path / "adapter", "Qwen/Qwen3-VL-30B-A3B-Instruct"))


def test_a_folder_without_an_adapter_stops_before_any_work(tiny_model: Path, tmp_path: Path):
    with pytest.raises(
        MissingModel, match=r"model\.adapter=.*: no adapter_config\.json there; name a folder that PEFT saved$"
    ):
        check_command_line("train", [f"model.path={tiny_model}", f"model.adapter={tmp_path / 'nowhere'}"])
    with pytest.raises(MissingModel, match=r"a whole model is there, for model\.path$"):
        check_adapter(tiny_model, tiny_model)
    adapter = adapter_of(tmp_path / "adapter", None)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"model\.adapter=.*: adapter_config\.json cannot be read"):
        check_adapter(tiny_model, adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(MissingModel, match=r"no adapter_model\.safetensors there"):
        check_adapter(tiny_model, adapter)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-2B-Instruct"),
        ("Qwen2.5-VL-7B-COT-SFT", "Video-R1/Qwen2.5-VL-7B-COT-SFT"),
        ("Qwen3-VL-30B-A3B-Thinking", "Qwen/Qwen3-VL-30B-A3B-Thinking"),
    ],
)
def test_a_published_folder_that_is_missing_is_named_with_its_repository(tmp_path: Path, name: str, repository: str):
    with pytest.raises(MissingModel, match=f"hf download {repository} --local-dir {tmp_path / name}"):
        require_model(tmp_path / name, "model.path")


def test_any_other_folder_that_is_missing_is_told_the_families(tmp_path: Path):
    with pytest.raises(MissingModel, match=f"a folder of one of the families {FAMILIES}"):
        require_model(tmp_path / "mine", "model.path")


@pytest.mark.parametrize("program", ["train", "evaluate"])
@pytest.mark.parametrize(
    "about",
    [
        {"quantization_config": {"quant_method": "fp8"}},
        {"compression_config": {"format": "float-quantized"}},
        {"text_config": {"quantization_config": {"quant_method": "awq", "bits": 4}}},
    ],
    ids=str,
)
def test_quantized_weights_are_refused_before_any_work(folder: Path, program: str, about: dict):
    start = json.loads((folder / "config.json").read_text())
    write_config(folder, json.dumps(start | about))
    with pytest.raises(ConfigError, match=rf"^model\.path={folder}: its weights are quantized, .* in bfloat16$"):
        check_command_line(program, [f"model.path={folder}"])
    write_config(folder, json.dumps(start | {"quantization_config": None}))
    check_command_line(program, [f"model.path={folder}"])
    (folder / "hf_quant_config.json").touch()
    with pytest.raises(ConfigError, match="its weights are quantized"):
        check_command_line(program, [f"model.path={folder}"])


def test_an_adapter_beside_a_model_is_refused_before_any_work(folder: Path):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"an adapter lies beside the model .* or set model\.adapter to a folder of "):
        check_command_line("train", [f"model.path={folder}"])
