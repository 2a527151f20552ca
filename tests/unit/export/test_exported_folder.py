"""An exported folder is the run's policy: transformers loads it as it is, and it is there whole or not at all."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from ktr.config.as_trained import ask_as_trained
from ktr.config.composing import compose
from ktr.errors import ConfigError, MissingData, MissingModel
from ktr.export import __main__ as program
from ktr.export import exported_folder
from ktr.export.exported_folder import export
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.types import PromptInputs
from tests.tiny_policy import random_prompt
from tests.unit.export.conftest import without_policy

Ended = tuple[Path, Policy]
GREEDY = SamplingParams(1, 12, temperature=0.0)


def transformers_inputs(prompt: PromptInputs) -> dict[str, Any]:
    return {
        "input_ids": prompt.input_ids_P[None],
        "position_ids": prompt.positions_3P[:, None],
        "pixel_values_videos": prompt.pixels_NC,
        "video_grid_thw": torch.tensor([medium.grid_thw for medium in prompt.media]),
    }


@torch.no_grad()
def logits(folder: Path, prompt: PromptInputs, trained: Policy | None = None) -> Tensor:
    """Those of transformers' own class, with the weights of a folder, or with those of ``trained`` in their place."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    if trained is not None:
        model.load_state_dict(dict(trained.named_weights()))
    return model(**transformers_inputs(prompt)).logits[0]


def check_is(folder: Path, trained: Policy) -> None:
    """Raise where a folder, read by transformers or by ktr, is another policy than ``trained``."""
    prompt = random_prompt(trained, 0)
    ours = logits(trained.path, prompt, trained)
    torch.testing.assert_close(logits(folder, prompt), ours, rtol=1e-5, atol=1e-5)
    (mine, read) = (
        TransformersEngine(policy).generate([prompt], GREEDY, [0])[0].completions[0]
        for policy in (trained, load_policy(folder).eval())
    )
    assert torch.equal(mine.token_ids_T, read.token_ids_T)
    torch.testing.assert_close(mine.logps_T, read.logps_T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["whole", "adapted"])
def test_it_is_the_policy_that_was_trained(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    run, trained = request.getfixturevalue(kind)
    folder, prompt = export(run, tmp_path / "out"), random_prompt(trained, 0)
    check_is(folder, trained)
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").eval()
    written = model.generate(
        **transformers_inputs(prompt), max_new_tokens=12, do_sample=False, suppress_tokens=trained.banned_ids.tolist()
    )[0, prompt.num_tokens :]
    (group,) = TransformersEngine(trained).generate([prompt], GREEDY, [0])
    assert written.tolist() == group.completions[0].token_ids_T.tolist()
    assert not (folder / "adapter_config.json").exists() and len(list(folder.glob("*.safetensors"))) == 1
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_its_words_are_those_of_the_model_that_the_run_started_from(adapted: Ended, tmp_path: Path):
    run, trained = adapted
    folder = export(run, tmp_path / "out")
    ours, start = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(trained.path)
    assert ours.get_vocab() == start.get_vocab() and ours.chat_template == start.chat_template
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.tokenizer.get_vocab() == start.get_vocab()
    assert processor.chat_template == AutoProcessor.from_pretrained(trained.path).chat_template


def test_checkpoints_are_exported_as_the_policy_was_then(adapted: Ended, policy_folder: Path, tmp_path: Path):
    run, trained = adapted
    prompt = random_prompt(trained, 0)
    final, last, earlier, best, named = (
        logits(export(run, tmp_path / str(checkpoint).replace("/", "-"), checkpoint), prompt)
        for checkpoint in (None, "last", "2", "best", str(run / "checkpoints" / "step-000002"))
    )
    torch.testing.assert_close(final, last, rtol=1e-5, atol=1e-5)
    assert torch.equal(earlier, best) and torch.equal(earlier, named)
    assert (final - earlier).abs().max() > 1e-3 < (final - logits(policy_folder, prompt)).abs().max()


def test_large_weights_are_cut_into_files_with_an_index(whole: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, trained = whole
    monkeypatch.setattr(exported_folder, "SHARD", "1MB")
    folder = export(run, tmp_path / "out")
    assert len(list(folder.glob("*.safetensors"))) > 1 and (folder / "model.safetensors.index.json").exists()
    check_is(folder, trained)


@pytest.mark.parametrize("checkpoint", [None, "last"])
def test_merged_weights_are_rounded_once(adapted: Ended, tmp_path: Path, checkpoint: str | None):
    run, trained = adapted
    folder = export(run, tmp_path / "out", checkpoint, dtype="bfloat16")
    found = load_policy(folder, dtype="auto")
    assert found.dtype == torch.bfloat16
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    for name, tensor in trained.named_weights():
        torch.testing.assert_close(found.model.state_dict()[name], tensor.bfloat16())


def test_its_dtype_is_that_of_the_model_that_the_run_started_from(adapted: Ended, tmp_path: Path):
    run, trained = adapted
    shutil.copytree(trained.path, tmp_path / "start")
    about = json.loads((tmp_path / "start" / "config.json").read_text())
    (tmp_path / "start" / "config.json").write_text(json.dumps(about | {"dtype": "bfloat16"}))
    folder = export(run, tmp_path / "out", "last", model=tmp_path / "start")
    assert load_policy(folder, dtype="auto").dtype == torch.bfloat16


def test_ktr_asks_it_as_it_was_trained(run: Path, tmp_path: Path):
    config = compose("evaluate", ["benchmark=shapes"])
    config.model.path = str(export(run, tmp_path / "elsewhere"))
    ask_as_trained(config, [])
    assert (config.video.max_pixels, config.prompt.instruction, config.sampling.temperature) == (6272, "so ?", 0.7)


def test_an_earlier_export_stays_where_a_later_one_fails(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    export(run, tmp_path / "out")
    before = (tmp_path / "out" / "README.md").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(exported_folder, "model_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export(run, tmp_path / "out", "2")
    assert (tmp_path / "out" / "README.md").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    export(run, tmp_path / "out", "2")
    assert (tmp_path / "out" / "README.md").read_text() != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_kill_leaves_no_half_folder_and_the_next_export_clears_what_it_left(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(exported_folder, "write_asking", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        child = os.fork()
        if child == 0:
            export(run, tmp_path / "out")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name == ".out.partial" and (left / "model.safetensors").exists()
    export(run, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_export_has_its_place_again_where_one_ends_between_both_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, rename = tmp_path / "out", Path.rename
    out.mkdir()
    (out / "README.md").write_text("earlier")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda path, to: 1 / 0 if path.suffix == ".partial" else rename(path, to))
        with pytest.raises(ZeroDivisionError), exported_folder._whole_or_not_at_all(out):
            pass
    assert (out / "README.md").read_text() == "earlier" and [path.name for path in tmp_path.iterdir()] == ["out"]
    out.rename(tmp_path / ".out.earlier")  # as a kill leaves it there
    with pytest.raises(ZeroDivisionError), exported_folder._whole_or_not_at_all(out):
        raise ZeroDivisionError
    assert (out / "README.md").read_text() == "earlier" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_signal_ends_it_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(exported_folder, "write_asking", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert program.main([str(run), "--output", str(tmp_path / "out")]) == 128 + signal.SIGTERM
    assert f"SIGTERM: ended; {tmp_path / 'out'} is as it was" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(Policy, "_write", full)
    assert program.main([str(run), "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"ktr.export: StorageError: {tmp_path / 'out'}: no space left on device; make room")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{tmp}"], "there is no config.yaml; name a run's folder"),
        (["{run}", "--checkpoint", "3"], "has those of updates 2, 4; name one of them, last, best, or the folder of"),
        (["{run}", "--output", "{run}"], "it holds other files; name a folder that is empty"),
        (["{run}", "--output", "{run}/config.yaml"], "a file stands where a folder belongs"),
        (["{run}", "--results", "{tmp}"], "no results.json; name a folder of python -m ktr.evaluate"),
        (["{run}", "--checkpoint", "last", "--model", "/gone"], "model.path=/gone: no model there. Get it: put a"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_one_sentence(
    run: Path, tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
):
    given = [argument.format(run=run, tmp=tmp_path) for argument in arguments]
    assert program.main([*given, *([] if "--output" in given else ["--output", str(tmp_path / "out")])]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("ktr.export: ") and sentence in told and not (tmp_path / "out").exists()


def test_the_path_of_what_was_written_is_printed_last(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert program.main([str(run), "--output", str(tmp_path / "out"), "--dtype", "float16"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"


def test_a_run_without_weights_says_which_it_has(run: Path, tmp_path: Path):
    with pytest.raises(MissingData, match="has no policy yet; its last checkpoint is that of update 4: --checkpoint"):
        export(without_policy(run, tmp_path / "cut"), tmp_path / "out")
    with pytest.raises(MissingData, match="the run has not finished, and has no policy yet$"):
        export(without_policy(run, tmp_path / "begun", ()), tmp_path / "out")
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    OmegaConf.save(compose("evaluate", []), evaluation / "config.yaml")
    with pytest.raises(MissingData, match="it is no run of python -m ktr.train"):
        export(evaluation, tmp_path / "out")


def test_adapters_find_their_base_where_it_lies_by_now(adapted: Ended, policy_folder: Path, tmp_path: Path):
    run, trained = adapted
    moved = without_policy(run, tmp_path / "run")
    config: Any = OmegaConf.load(run / "config.yaml")
    config.model.path = "/gone"
    (moved / "config.yaml").unlink()
    OmegaConf.save(config, moved / "config.yaml")
    with pytest.raises(MissingModel, match=r"model\.path=/gone: no model there"):
        export(moved, tmp_path / "out", "last")
    check_is(export(moved, tmp_path / "out", "last", model=policy_folder), trained)


def test_weights_that_are_torn_are_named(run: Path, tmp_path: Path):
    torn = tmp_path / "step-000004"
    shutil.copytree(run / "checkpoints" / "step-000004", torn)
    (torn / "adapter_model.safetensors").write_bytes(b"\x10")
    with pytest.raises(MissingModel, match="step-000004: its weights cannot be read"):
        export(run, tmp_path / "out", str(torn))


def test_no_class_from_elsewhere_is_built_for_a_folder_s_sake(run: Path, tmp_path: Path):
    strange = without_policy(run, tmp_path / "run")
    config: Any = OmegaConf.load(run / "config.yaml")
    config.model._target_ = "os.getcwd"
    (strange / "config.yaml").unlink()
    OmegaConf.save(config, strange / "config.yaml")
    with pytest.raises(ConfigError, match=r"model\._target_=os\.getcwd"):
        export(strange, tmp_path / "out", "last")


def test_the_license_of_the_model_that_the_run_started_from_goes_with_it(
    run: Path, policy_folder: Path, tmp_path: Path
):
    start = tmp_path / "start"
    shutil.copytree(policy_folder, start)
    (start / "README.md").write_text("---\nlicense: other\nlicense_name: research\ntags: [x]\n---\n# Start\n")
    (start / "LICENSE").write_text("for research")
    folder = export(run, tmp_path / "out", model=start)
    assert (folder / "LICENSE").read_text() == "for research"
    assert "license: other\nlicense_name: research\n---\n" in (folder / "README.md").read_text()
