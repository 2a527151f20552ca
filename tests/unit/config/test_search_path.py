"""Config files beside conf/: their groups, choices, keys, hints, tables and names, and which folder each came from."""

import re
import shutil
from pathlib import Path

import pytest

from ktr.config.command_line import check_command_line
from ktr.config.composing import compose
from ktr.config.search_path import CONF, with_search_path
from ktr.errors import ConfigError
from tests.programs import ktr

OUTSIDE = Path(__file__).parents[2] / "outside"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine_unread: None) -> Path:
    """A user's folder: the package mine, with its config files in my_conf; where the command is given."""
    shutil.copytree(OUTSIDE / "mine", tmp_path / "mine")
    shutil.copytree(OUTSIDE / "conf", tmp_path / "my_conf")
    shutil.copytree(OUTSIDE / "conf", tmp_path / "mine" / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "given",
    [
        ["--config-dir", "my_conf"],
        ["--config-dir=my_conf"],
        ["-cd", "my_conf"],
        ["hydra.searchpath=[my_conf]"],
        ["hydra.searchpath=[file://my_conf]"],
        ["hydra.searchpath=['file://{home}/my_conf']"],
        ["hydra.searchpath=[~/my_conf]"],
        ["hydra.searchpath=[pkg://mine.conf]"],
        ["hydra.searchpath=[pkg://mine/conf]"],
        ["--config-dir=my_conf", "hydra.searchpath=[my_conf]"],
    ],
)
def test_every_way_to_name_a_search_path_brings_its_files(
    given: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(home))
    given = [text.format(home=home) for text in given]
    (job,) = check_command_line("train", [*given, "+reward/part=mine", "+attribution/signal=mine", "--cfg", "job"])
    assert job.reward.rewards.mine.limit == 64 and "mine" in job.attribution.signals
    assert job.name == "video_ktr-vet-16f-s0-mine-mine"


def test_a_primary_config_of_the_user_s_may_name_search_paths(home: Path):
    (home / "start").mkdir()
    text = "defaults: [train, _self_]\nhydra:\n  searchpath: [my_conf]\nreward:\n  weights: {format: 0.5}\n"
    (home / "start" / "mine.yaml").write_text(text)
    given = ["--config-dir=start", "--config-name=mine", "+reward/part=mine", "--cfg", "job"]
    (job,) = check_command_line("train", given)
    assert job.reward.rewards.mine.limit == 64 and job.reward.weights.format == 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--config-dir=my_cnf"], r"--config-dir=my_cnf: there is no such folder; did you mean my_conf\?"),
        (["hydra.searchpath=[my_conf,none]"], r"hydra\.searchpath=none: there is no such folder"),
        (["hydra.searchpath=[pkg://mine.cnf]"], r"hydra\.searchpath=pkg://mine\.cnf: there is no such package"),
        (["hydra.searchpath=[pkg://nowhere.conf]"], r"pkg://nowhere\.conf: there is no such package"),
        (["hydra.searchpath=[s3://conf]"], r"s3:// is no kind of search path; give a folder"),
        (["hydra.searchpath=my_conf"], r"it takes a list of folders"),
        (["hydra.searchpath=[my_conf]", "hydra.searchpath=[mine]"], r"is given 2 times: give one list"),
        (["--config-dir=mine/__init__.py"], r"there is no such folder"),
        (["--config-path=my_conf"], r"would take the place of ktr's own conf/; give --config-dir=my_conf"),
        (["--config-dir=my_conf", "hydra.searchpath=[mine/conf]"], r"attribution/signal/mine\.yaml stands in my_conf "
         r"and in mine/conf: give one of them another name"),
        (["--config-dir=my_conf", "+reward/part=minne"], r"reward/part=minne: conf/reward/part and my_conf/reward/part "
         r"has no such file; did you mean mine \(my_conf\)\?"),
        (["--config-dir=my_conf", "loss=minne"], r"conf/loss and my_conf/loss has no such file; did you mean mine "),
        (["--config-dir=my_conf", "+reward/part=mine", "reward.rewards.mine.limt=3"],
         r"unknown key reward\.rewards\.mine\.limt: did you mean reward\.rewards\.mine\.limit\?"),
        (["--config-dir=my_conf", "+experiment=table/mne"], r"experiment=table/mne: .*did you mean table/mine "),
        (["+reward/part=mine"], r"reward/part=mine: conf/reward/part has no such file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("program", ["train"])
def test_what_is_wrong_is_one_sentence_before_any_work(program: str, given: list[str], said: str, home: Path):
    with pytest.raises(ConfigError, match=said) as caught:
        check_command_line(program, given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("limit: 64", "limt: 64", r"reward\.rewards\.mine\.limt: did you mean reward\.rewards\.mine\.limit\?"),
        ("limit: 64", "limit: a lot", r"reward\.rewards\.mine\.limit='a lot': it takes int"),
        ("parts.Brevity", "parts.Brevty", r"defines no 'Brevty'; did you mean mine\.parts\.Brevity\?"),
        ("mine.parts", "mein.parts", r"no module 'mein' can be imported: start in the folder that holds it"),
    ],
)
def test_what_is_wrong_in_a_file_names_the_file(old: str, new: str, said: str, home: Path):
    file = home / "my_conf" / "reward" / "part" / "mine.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=said + r".* \(my_conf/reward/part/mine\.yaml\)$"):
        check_command_line("train", ["--config-dir=my_conf", "+reward/part=mine"])


def test_a_file_that_is_no_yaml_is_one_sentence(home: Path):
    (home / "my_conf" / "reward" / "part" / "mine.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(ConfigError, match=r"mine\.yaml") as caught:
        check_command_line("train", ["--config-dir=my_conf", "+reward/part=mine"])
    assert "\n" not in str(caught.value)


def test_a_file_of_a_shipped_name_is_refused_also_if_nothing_chooses_it(home: Path):
    shutil.copy(CONF / "loss" / "clipped.yaml", home / "my_conf" / "loss" / "clipped.yaml")
    with pytest.raises(ConfigError, match=r"loss/clipped\.yaml stands in conf and in my_conf"):
        check_command_line("train", ["--config-dir=my_conf", "--info"])


def test_a_package_without_an_init_file_is_checked_as_any_other(home: Path):
    (home / "mine" / "__init__.py").unlink()
    given = ["--cfg=job", "--config-dir=my_conf", "+reward/part=mine"]
    assert check_command_line("train", given)[0].reward.rewards.mine.limit == 64
    with pytest.raises(ConfigError, match=r"did you mean reward\.rewards\.mine\.limit"):
        check_command_line("train", [*given, "reward.rewards.mine.limt=2"])


def test_the_rows_of_a_table_and_the_jobs_of_a_sweep_carry_the_search_path(home: Path):
    jobs = check_command_line("train", ["--config-dir=my_conf", "+experiment=table/mine", "seed=0,1", "--cfg", "job"])
    assert [job.name for job in jobs] == ["vet-s0", "mine-s0", "vet-s1", "mine-s1"]
    assert ["mine" in job.reward.rewards for job in jobs] == [False, True, False, True]
    whole = with_search_path(["-m", "--config-dir=my_conf", "seed=0,1"], ["seed=0,1"], "my_conf", "train")
    assert whole == ["-m", f"hydra.searchpath=['file://{home / 'my_conf'}']", "seed=0,1"]


@pytest.mark.parametrize(
    ("program", "given", "shown"),
    [
        ("train", ["--config-dir=my_conf", "--help"], r"(?m)^loss: .*\bmine\b"),
        ("evaluate", ["--config-dir", "my_conf", "--info", "searchpath"], "file://{home}/my_conf"),
        ("attribute", ["--config-dir=my_conf", "+reward/part=mine", "--cfg", "job"], r"(?m)^ +limit: 64$"),
    ],
)
def test_what_hydra_shows_knows_the_folder(program: str, given: list[str], shown: str, home: Path):
    done = ktr(program, *given, folder=home)
    assert re.search(shown.format(home=home), done.stdout), done.stderr


@pytest.mark.parametrize("key", ["reward/part=released_format", "attribution/signal=random"])
def test_a_shipped_part_is_added_by_the_same_words_as_one_from_outside(key: str):
    config = compose("train", [f"+{key}"])
    assert (config.reward.rewards.format._target_.endswith(".ReleasedFormat") and "random" not in key) or (
        "random" in config.attribution.signals
    )
    long = compose("train", ["+reward/part@reward.rewards.format=released_format", "name=n"])
    assert long.reward.rewards.format._target_.endswith(".ReleasedFormat")
