"""Tables are sweeps whose rows compose and instantiate, embedded and at 7B, and the rows are those of the paper."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ktr.config.command_line import check_command_line
from ktr.config.search_path import CONF
from ktr.config.table_rows import check_rows
from ktr.errors import ConfigError

TABLES = sorted(file.stem for file in (CONF / "experiment" / "table").glob("*.yaml"))
PARTS = ("weighting", "selection", "reward", "advantage", "loss", "sampling", "optimizer")
# A row is what its name says.
IS_ITS_NAME = {
    "ratio": lambda row: row.selection.ratio == float(row.table.row),
    "distance": lambda row: (
        {signal.get("distance", row.table.row) for signal in row.attribution.signals.values()} == {row.table.row}
    ),
    "frames": lambda row: row.data.train.world.num_frames == int(row.table.row.rpartition("_")[2]),
    "main": lambda row: row.data.train.world.num_frames == int(row.table.row.rpartition("_")[2]),
}
NAMES = {"main", "rl_methods", "signals", "frames", "ratio", "weighting", "distance", "perturbation", "controls"} | {
    "controls_matched",
    "gradients",
    "regime",
    "reasoning",
    "methods_after",
}


def jobs(table: str, *overrides: str):
    return check_command_line("train", [f"+experiment={table}", *overrides, "--cfg", "job"])


def table_of(name: str) -> Any:
    file = OmegaConf.load(CONF / "experiment" / "table" / f"{name}.yaml")
    others = [default for default in file.defaults if isinstance(default, str) and default.startswith("/experiment")]
    return OmegaConf.merge(*(table_of(Path(other).name) for other in others), file.table)  # with the rows of others


def own_rows(name: str) -> list[str]:
    """A table's baseline, and the rows that no earlier table has: composing one takes a fifth of a second."""
    known = [overrides for table in TABLES[: TABLES.index(name)] for overrides in table_of(table).rows.values()]
    table = table_of(name)
    return [row for row, overrides in table.rows.items() if row == table.baseline or overrides not in known]


def test_every_table_of_the_paper_is_there():
    assert set(TABLES) == NAMES


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_a_table_composes_and_instantiates(name: str):
    table = table_of(name)
    composed = own_rows(name)
    rows = jobs(f"table/{name}", "seed=1", "data=shapes", "model=shapes_tiny", f"table.row={','.join(composed)}")
    assert table.name == name and table.baseline in table.rows
    assert [row.table.row for row in rows] == composed
    assert [row.paths.folder for row in rows] == [f"table/{name}/{row}-s1" for row in composed]
    for row in rows:
        for part in PARTS:
            instantiate(row[part])
        if row.data.get("transform"):
            assert instantiate(row.data.transform).probability == 0  # all rows have the same questions
        if row.table.row != table.baseline:
            assert IS_ITS_NAME.get(name, lambda row: True)(row)


def test_the_control_of_a_table_has_the_signals_of_the_row_that_it_controls():
    rows = {row.table.row: row for row in jobs("table/controls", "table.row=vet,vet_random", "seed=0")}
    assert rows["vet_random"].attribution == rows["vet"].attribution
    assert [rows[row].weighting._target_.rpartition(".")[2] for row in ("vet_random", "vet")] == [
        "RandomTokens",
        "KeyTokens",
    ]


def test_matched_controls_are_the_controls_but_for_their_optimizer():
    row, matched = (jobs(f"table/{name}", "table.row=vet", "seed=0")[0] for name in ("controls", "controls_matched"))
    assert type(instantiate(matched.optimizer)).__name__ == "MatchedAdamWCosine"
    assert OmegaConf.merge(matched.optimizer, {"_target_": row.optimizer._target_}) == row.optimizer
    assert matched.weighting == row.weighting and matched.paths.folder == "table/controls_matched/vet-s0"


@pytest.mark.parametrize("name", ["main", "signals", "controls"])
def test_the_same_file_is_the_table_at_7b(name: str):
    last = list(table_of(name).rows)[-1]
    (row,) = jobs(f"[paper,table/{name}]", f"table.row={last}", "seed=0")
    assert row.model.path.endswith("Qwen2.5-VL-7B-COT-SFT") and row.encoder.max_prompt_tokens == 16384
    assert row.trainer.max_steps == 2115 and row.paths.folder == f"table/{name}/{last}-s0"


def test_seeds_are_outside_rows_and_three_by_default():
    two_rows = jobs("table/rl_methods", "table.row=grpo,t_grpo")
    assert [(job.seed, job.table.row) for job in two_rows] == [
        (seed, row) for seed in (0, 1, 2) for row in ("grpo", "t_grpo")
    ]
    assert [job.seed for job in jobs("table/rl_methods", "table.row=grpo", "seed=3,4")] == [3, 4]
    assert [job.seed for job in jobs("table/rl_methods", "table.row=grpo", "table.seeds=[5]")] == [5]


def test_a_part_of_a_table_is_chosen_by_row_and_seed():
    (job,) = jobs("table/signals", "table.row=e", "seed=4")
    assert set(job.attribution.signals) == {"entropy"} and job.name == "e-s4"


@pytest.mark.parametrize(("launcher", "scale", "expected"), [
    ("parallel", "table/ratio", {"n_jobs": -1}),
    ("parallel", "[paper,table/ratio]", {"n_jobs": 1}),  # a row takes all GPUs
    ("slurm", "[paper,table/ratio]", {"gpus_per_node": 8, "nodes": 1}),
])  # fmt: skip
def test_launchers_are_chosen_by_config(launcher: str, scale: str, expected: dict):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "train",
            [f"+experiment={scale}", f"hydra/launcher={launcher}", "table.row=0.2"],
            return_hydra_config=True,
        )
    for key, value in expected.items():
        assert config.hydra.launcher[key] == value
    module, _, name = config.hydra.launcher._target_.rpartition(".")
    assert hasattr(importlib.import_module(module), name)
    assert config.hydra.sweeper.params == {"seed": "0,1,2", "table.row": "grpo,0.1,0.2,0.3,0.4,0.5"}


def test_a_slip_in_a_row_is_named():
    with pytest.raises(ConfigError, match=r"table\.row=x: no such row; choose from grpo, e, v, t"):
        jobs("table/signals", "table.row=x", "seed=0")


def test_a_baseline_that_is_no_row_is_named_before_any_run():
    with pytest.raises(ConfigError, match=r"table.baseline=gpro: no such row; choose from grpo, e, v"):
        jobs("table/signals", "table.baseline=gpro")


@pytest.mark.parametrize("name", ["a/b", "..", "''"])
def test_a_table_is_called_what_a_folder_below_the_runs_can_be(name: str):
    with pytest.raises(ConfigError, match=r"table\.name=.*: it is that of the table's folder; give one word"):
        jobs("table/signals", f"table.name={name}")


@pytest.mark.parametrize("row", ["1e-4", "1.50", "a, b", "[a]", "null"])
def test_a_row_is_called_what_a_command_line_reads(row: str):
    check_rows(OmegaConf.create({"baseline": "grpo", "rows": {"grpo": [], "0.1": [], "lr_1e-4": [], "vet-2": []}}))
    with pytest.raises(ConfigError, match=f"a row cannot be called {re.escape(row)}: a command line reads another"):
        check_rows(OmegaConf.create({"baseline": "grpo", "rows": {"grpo": [], row: []}}))


@pytest.mark.parametrize(
    ("given", "tables"),
    [
        ("[paper,table/signals,table/ratio]", "table/signals and table/ratio"),
        ("table/signals,table/ratio", "table/signals and table/ratio"),
        ("[paper,table/signals],[paper]", "table/signals"),
    ],
)
def test_a_table_is_run_by_itself(given: str, tables: str):
    with pytest.raises(ConfigError, match=f"experiment: {tables}: a table is a sweep of its own"):
        check_command_line("train", ["--multirun", f"+experiment={given}", "table.row=grpo"])


def test_what_the_rows_differ_in_cannot_be_set_for_all():
    with pytest.raises(ConfigError, match=r"video\.num_frames=8: the rows of this table differ in video\.num_frames"):
        jobs("table/frames", "video.num_frames=8")
    with pytest.raises(ConfigError, match=r"weighting=key_tokens: .* row vet_random sets weighting=random_tokens"):
        jobs("table/controls", "weighting=key_tokens")


def test_a_table_that_is_no_sweep_asks_for_its_row():
    with pytest.raises(ConfigError, match=r"table\.row has no value: .*grpo, e, v, t"):
        jobs("table/signals", "hydra.mode=RUN")
    with pytest.raises(ConfigError, match=r"table\.row=e stands for attribution=e: give that too"):
        jobs("table/signals", "hydra.mode=RUN", "table.row=e")
    (job,) = jobs("table/signals", "hydra.mode=RUN", "table.row=e", "attribution=e")
    assert job.name == "e-s0"


def test_a_folder_with_other_settings_is_refused_and_with_the_same_is_gone_on_with(tmp_path: Path):
    arguments = ["+experiment=table/signals", "table.row=e", "seed=0", f"paths.runs={tmp_path}"]
    (job,) = check_command_line("train", arguments)
    folder = Path(job.paths.run_dir)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(job, resolve=True))
    (folder / "summary.json").write_text(json.dumps({}))
    (again,) = check_command_line("train", [*arguments, "logger=tensorboard"])
    assert again.paths.run_dir == job.paths.run_dir  # finished or not, a row has one folder
    with pytest.raises(ConfigError, match=rf"{folder} holds .* \(.*trainer\.max_steps was 120, now 60.*paths\.runs="):
        check_command_line("train", [*arguments, "trainer.max_steps=60"])
