"""The programs as a user starts them: what a wrong command line says, and what a right one prints."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.programs import ktr, outside_environment


@pytest.mark.parametrize("arguments", [["trainer.max_setps=3"], ["-m", "seed=0,1", "trainer.max_setps=3"]])
def test_a_mistyped_key_is_one_line_and_exit_code_2_before_any_heavy_import_or_file(
    arguments: list[str], tmp_path: Path
):
    done = ktr("train", *arguments, folder=tmp_path)
    message, imported = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert "trainer.max_setps" in message and "did you mean trainer.max_steps?" in message
    assert imported == "imported: "
    assert list(tmp_path.iterdir()) == []


def test_a_real_run_without_its_weights_says_what_is_missing_before_any_work(tmp_path: Path):
    done = ktr("train", "+experiment=vet_64f", folder=tmp_path)
    message, imported = done.stderr.splitlines()
    assert done.returncode == 2 and imported == "imported: "
    assert "models/Qwen2.5-VL-7B-COT-SFT" in message and "hf download" in message
    assert list(tmp_path.iterdir()) == []


def test_the_config_of_the_paper_s_run_prints_resolved(tmp_path: Path):
    done = ktr("train", "+experiment=vet_64f", "--cfg", "job", "--resolve", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "${" not in done.stdout and "???" not in done.stdout
    config = yaml.safe_load(done.stdout)
    assert config["paths"]["run_dir"] == "runs/vet_64f/video_ktr-vet-64f-s0"
    assert config["attribution"]["signals"].keys() == {"visual", "entropy", "temporal"}
    assert config["video"]["num_frames"] == 64 and config["name"] == "video_ktr-vet-64f-s0"


def test_a_sweep_prints_the_config_of_each_job(tmp_path: Path):
    done = ktr("train", "-m", "algorithm=grpo,t_grpo", "video.num_frames=16,32", "--cfg", "job", folder=tmp_path)
    assert done.returncode == 0 and done.stderr == "imported: \n", done.stderr
    configs = list(yaml.safe_load_all(done.stdout))
    assert [(config["labels"]["algorithm"], config["video"]["num_frames"]) for config in configs] == [
        (method, frames) for method in ("grpo", "t_grpo") for frames in (16, 32)
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_table_prints_the_config_of_each_row(tmp_path: Path):
    table = ["+experiment=table/rl_methods", "table.row=grpo,t_grpo"]
    done = ktr("train", *table, "seed=0,1", "--cfg", "job", "--resolve", folder=tmp_path)
    assert done.returncode == 0 and "${" not in done.stdout, done.stderr
    configs = list(yaml.safe_load_all(done.stdout))
    assert [config["name"] for config in configs] == ["grpo-s0", "t_grpo-s0", "grpo-s1", "t_grpo-s1"]
    part = ktr("train", *table, "seed=0", "--cfg", "job", "--package", "table", folder=tmp_path)
    assert [config["row"] for config in yaml.safe_load_all(part.stdout)] == ["grpo", "t_grpo"]


@pytest.mark.parametrize("program", ["evaluate", "attribute", "study"])
def test_the_config_of_the_other_programs_prints(program: str, tmp_path: Path):
    done = ktr(program, "--cfg", "job", "--resolve", folder=tmp_path)
    assert yaml.safe_load(done.stdout)["paths"]["run_dir"] == f"runs/{program}-16f-s0", done.stderr


def test_help_lists_the_groups(tmp_path: Path):
    shown = ktr("train", "--help", folder=tmp_path).stdout
    assert (
        "attribution: e, et, every_option, none, " in shown and "weighting: batch_entropy, group_divergence, " in shown
    )


REFUSING = """
import hydra
from hydra.utils import instantiate
from ktr.config.command_line import launch
from ktr.config.search_path import CONF

@hydra.main(version_base="1.3", config_path=str(CONF), config_name="attribute")
def job(config):
    instantiate(config.data.validation.world)

launch(job, "attribute")
"""


def test_a_value_that_a_part_refuses_is_one_line_with_its_key(tmp_path: Path):
    command = [sys.executable, "-c", REFUSING, "data.validation.world.min_events=5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=outside_environment(), timeout=120)
    said = "ktr.attribute: ConfigError: data.validation.world: need 2 <= min_events <= max_events <= 6, got 5, 4"
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == said and "Traceback" not in done.stderr


JOB = """
import hydra
from ktr.config.command_line import launch
from ktr.config.search_path import CONF

@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def job(config):
    print(config.paths.run_dir)

launch(job, "evaluate")
"""


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]])
def test_a_job_writes_where_hydra_made_its_folder_and_a_rerun_elsewhere(sweep: list[str], tmp_path: Path):
    """An evaluation never goes on in a folder that is there, so that the folder is chosen before Hydra makes it."""
    folders: list[str] = []
    for _ in range(2):
        arguments = [*sweep, f"model.path={tmp_path}", "name=seed${seed}", "data.validation.num_questions=1"]
        for name in ("config.json", "processor_config.json", "tokenizer.json", "model.safetensors"):
            (tmp_path / name).write_text('{"model_type": "qwen2_5_vl"}')  # a model, as far as the check looks
        environment = outside_environment()
        command = [sys.executable, "-c", JOB, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        folders += [line for line in done.stdout.splitlines() if line.startswith("runs/")]
    assert len(folders) == len(set(folders)) == 2 * max(1, len(sweep))
    assert sorted(folders) == sorted(f"runs/{path.name}" for path in (tmp_path / "runs").iterdir() if path.is_dir())
