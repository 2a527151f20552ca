"""The first process of a run is told from its other ranks, whoever launched them."""

import pytest

from ktr.config.composing import compose
from ktr.config.launched import is_rank_0
from ktr.errors import ConfigError

NAMES = ("RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "RANK": "0"}, True),
        ({"LOCAL_RANK": "0", "RANK": "8", "GROUP_RANK": "1"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "0"}, True),
        ({"NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "3"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # of a task that launches its own ranks
        ({"SLURM_PROCID": "1", "RANK": "0", "LOCAL_RANK": "0"}, True),  # torchrun counts otherwise
    ],
)
def test_by_what_the_launcher_says(environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_rank_0() is first


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS", "NODE_RANK"])
def test_ranks_that_start_apart_cannot_look_for_a_free_folder(name: str, monkeypatch: pytest.MonkeyPatch):
    compose("train", ["resume=false"])
    monkeypatch.setenv(name, "2")
    compose("train", [])
    with pytest.raises(ConfigError, match=r"resume=false: ranks that are launched apart"):
        compose("train", ["resume=false"])
