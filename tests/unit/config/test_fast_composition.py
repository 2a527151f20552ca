"""What is composed faster is what Hydra composes by itself, and follows its files."""

import pickle
from pathlib import Path

import cloudpickle
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf, base, grammar_parser
from omegaconf.errors import GrammarParseError

from ktr.config import fast_composition
from ktr.config.search_path import CONF


@pytest.fixture
def choosing(tmp_path: Path) -> Path:
    """A folder whose config chooses a file by the choice of another group."""
    files = {
        "start": "defaults:\n  - size: small\n  - colour: of_${size}\n  - _self_\nlast: 1",
        "size/small": "millimetres: 1", "size/large": "millimetres: 2",
        "colour/of_small": "name: red", "colour/of_large": "name: blue",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def composed(folder: Path, name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(folder), version_base="1.3", job_name="check"):
        return compose(name, list(overrides), return_hydra_config=True)


def test_a_composition_is_the_one_that_hydra_makes_by_itself(choosing: Path):
    asked = [(CONF, "train", "+experiment=[paper,table/signals]", "seed=1"), (CONF, "evaluate", "benchmark=mmvu")]
    asked += [(choosing, "start"), (choosing, "start", "size=large")]
    ours = [composed(*one) for one in asked]
    with pytest.MonkeyPatch.context() as patch:
        for source in (FileConfigSource, ImportlibResourcesConfigSource):
            patch.setitem(SourcesRegistry.instance().types, source.scheme(), source)
        patch.setattr(defaults_list, "_create_interpolation_map", fast_composition._choices_of)
        patch.delattr(ConfigStore, "__deepcopy__")
        patch.setattr(base, "parse", grammar_parser.parse)
        assert list(map(OmegaConf.to_yaml, ours)) == [OmegaConf.to_yaml(composed(*one)) for one in asked]
    assert [config.colour.name for config in ours[2:]] == ["red", "blue"]


def test_a_file_that_changes_is_read_anew_and_a_config_that_is_changed_leaves_the_next_as_it_was(choosing: Path):
    first = composed(choosing, "start")
    first.size.millimetres, first.hydra.runtime.choices = 7, {}
    again, file = composed(choosing, "start"), choosing / "size" / "small.yaml"
    assert again.size.millimetres == 1 and again.hydra.runtime.choices
    file.write_text("millimetres: 3")
    assert composed(choosing, "start").size.millimetres == 3
    file.unlink()
    with pytest.raises(MissingConfigException, match="size/small"):
        composed(choosing, "start")


def test_a_reference_is_read_once_and_means_what_is_there_now():
    config = OmegaConf.create(
        {"a": "${b}/${oc.select:c,none}", "b": 1, "other": {"a": "${b}/${oc.select:c,none}", "b": 2}}
    )
    assert config.a == config.other.a == "1/none"
    config.b, config.c = 3, "${b}"
    assert config.a == config.other.a == "3/3"
    assert base.parse("${b}/${oc.select:c,none}") is base.parse("${b}/${oc.select:c,none}")
    for _ in range(2):
        with pytest.raises(GrammarParseError):
            OmegaConf.create({"a": "${b"})


def test_a_row_in_a_process_of_its_own_takes_over_the_sources(monkeypatch: pytest.MonkeyPatch):
    """As launchers do: the state is pickled into the row's process, where the plugins register their sources anew."""
    state = pickle.loads(cloudpickle.dumps(Singleton.get_state()))
    monkeypatch.setattr(Singleton, "_instances", Singleton._instances)
    Singleton.set_state(state)
    assert SourcesRegistry.instance().resolve("file") is fast_composition.FileConfigSource
