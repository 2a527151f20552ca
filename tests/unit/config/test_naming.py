"""Runs of different command lines have different, readable names; a finished run's folder is never taken again."""

from pathlib import Path

import pytest

from ktr.config.command_line import check_command_line
from ktr.config.composing import compose
from ktr.config.search_path import CONF
from ktr.config.settings import override_without_secrets
from ktr.errors import ConfigError

GROUPS_WITH_NONE = sorted(file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("none.yaml"))
GROUPS_WITH_NONE = [
    group for group in GROUPS_WITH_NONE if group not in ("benchmark", "endpoint", "judge")
]  # of evaluate alone


def name(*overrides: str) -> str:
    return compose("train", overrides).name


def test_a_name_says_algorithm_signals_frames_and_seed():
    assert name() == "video_ktr-vet-16f-s0"
    assert name("algorithm=grpo", "seed=1") == "grpo-none-16f-s1"
    assert name("attribution=vt", "video.num_frames=32") == "video_ktr-vt-32f-s0"


def test_other_overrides_follow_in_any_order_and_can_be_folder_names():
    overrides = ["trainer.max_steps=2", "selection.ratio=0.3", "trainer=ddp", "model.freeze=[vision,merger]"]
    assert name(*overrides) == name(*reversed(overrides))
    assert name(*overrides) == "video_ktr-vet-16f-s0-freeze_vision_merger-ratio_0.3-max_steps_2-ddp"


def test_of_two_keys_with_one_last_part_the_name_has_both_whole():
    overrides = ["data.train.limit=4", "data.validation.limit=8", "data=video_r1_260k"]
    assert name(*overrides).endswith("s0-data.train.limit_4-data.validation.limit_8-video_r1_260k")


def test_of_a_path_the_name_has_the_last_two_parts_and_no_name_is_too_long_for_a_folder():
    assert name("model.path=/some/run/policy/") == "video_ktr-vet-16f-s0-path_run_policy"
    long, longer = (name(f"prompt.instruction={'x' * n}") for n in (300, 301))
    assert len(long) == len(longer) == 120 and long != longer


def test_where_a_run_writes_and_what_it_shows_is_no_part_of_its_name():
    assert name("paths.runs=/elsewhere", "logger=tensorboard", "callbacks=none", "resume=false") == name()


@pytest.mark.parametrize("group", GROUPS_WITH_NONE)
def test_none_is_said_of_the_signals_alone(group: str):
    chosen = name("algorithm=grpo", "attribution=none", "rollout=vllm_colocate", f"{group}=none")
    assert chosen.split("-").count("none") == chosen.count("none") == 1


def test_a_weighting_that_is_chosen_follows_and_a_method_is_called_by_its_signals():
    assert name("weighting=random_tokens") == "video_ktr-vet-16f-s0-random_tokens"
    assert name("algorithm=tw_grpo") == "tw_grpo-none-16f-s0"


def test_a_part_that_is_left_out_is_named():
    assert name("algorithm=grpo", "probe=none") == "grpo-none-16f-s0-no_probe"
    assert name("rollout=vllm_server", "rollout/correction=none") == "video_ktr-vet-16f-s0-no_correction-vllm_server"
    assert name("rollout=vllm_server", "~rollout/correction") == "video_ktr-vet-16f-s0-vllm_server-no_correction"


def test_the_rows_of_the_paper_make_eight_runs():
    jobs = check_command_line("train", ["--cfg", "job", "-m", "attribution=none,e,v,t,vt,et,ve,vet"])
    assert [job.paths.folder for job in jobs] == [
        f"video_ktr-{row}-16f-s0" for row in ("none", "e", "v", "t", "vt", "et", "ve", "vet")
    ]


def test_an_experiment_gathers_its_runs():
    assert compose("train", ["+experiment=vet_32f"]).paths.folder == "vet_32f/video_ktr-vet-32f-s0"


def test_two_jobs_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="2 jobs would share the folder mine"):
        check_command_line("train", ["--cfg", "job", "-m", "seed=0,1", "name=mine"])


@pytest.mark.parametrize(
    ("left_behind", "resume", "folder"),
    [
        ([], True, "run"),
        (["run/metrics.csv"], True, "run"),  # killed: goes on there
        (["run/summary.json"], True, "run-2"),
        (["run/summary.json", "run-2/summary.json"], True, "run-3"),
        (["run/summary.json", "run-2/metrics.csv"], True, "run-2"),
        (["run/metrics.csv"], False, "run-2"),
    ],
)
def test_a_finished_folder_is_taken_and_an_unfinished_one_goes_on(
    tmp_path: Path, left_behind, resume: bool, folder: str
):
    for path in left_behind:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    config = compose("train", ["name=run", f"paths.runs={tmp_path}", f"resume={resume}"])
    assert config.paths.run_dir == f"{tmp_path}/{folder}"


@pytest.mark.parametrize("given", ["name=", "name=.", "name=..", "name=../x", "name=a/b", "'name=a\\b'"])
def test_a_name_that_is_no_folder_below_the_runs_is_refused(given: str):
    with pytest.raises(ConfigError, match="a run's name is that of its folder"):
        compose("train", [given.strip("'")])


def test_a_secret_is_no_part_of_a_name_and_so_of_a_folder():
    address = 'rollout.addresses=["http://me:hush@host:8000"]'
    assert name("rollout=vllm_server", address).endswith("s0-addresses_secret_host_8000-vllm_server")
    own = "+attribution.signals.mine={_target_: ktr.attribution.signals.RandomSignal}"
    assert override_without_secrets("++reward.rewards.mine.api_key=hush") == "++reward.rewards.mine.api_key=<secret>"
    assert override_without_secrets(own) == own and override_without_secrets("seed=1") == "seed=1"
