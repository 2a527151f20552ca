"""What ranks cannot share evenly is refused where the command line is read, and the number of ranks is Lightning's."""

from typing import Any

import pytest

from ktr.config.composing import compose
from ktr.config.even_shares import num_devices, num_ranks
from ktr.errors import ConfigError

PAPER = "+experiment=vet_32f"
SERVERS = [PAPER, "trainer.devices=4", "rollout=vllm_server"]


@pytest.mark.parametrize(
    "overrides",
    [
        [PAPER, "trainer=fsdp2_nodes"],
        [PAPER, "trainer.num_nodes=2"],
        ["trainer=ddp", "trainer.devices=[0,1,2]"],
        ["trainer=ddp", "trainer.devices='0,1,2'"],
    ],
)
def test_a_batch_that_the_ranks_cannot_share_is_refused_before_anything_is_loaded(overrides: list[str]):
    ranks = 3 if "trainer=ddp" in overrides else 16
    said = rf"data\.questions_per_step=\d+: {ranks} ranks share a batch evenly; give a multiple of {ranks}, or"
    with pytest.raises(ConfigError, match=said):
        compose("train", overrides)
    compose("train", [*overrides, f"data.questions_per_step={2 * ranks}"])


def test_servers_that_the_ranks_cannot_share_are_refused_before_anything_is_loaded():
    for given, total, key in (
        ("rollout.num_servers=1", 1, "num_servers"),
        ("rollout.num_servers=6", 6, "num_servers"),
        ("rollout.addresses=[http://127.0.0.1:1,http://127.0.0.1:2]", 2, "addresses"),
    ):
        said = rf"rollout\.{key}: {total} servers for 4 ranks; use a multiple of the ranks"
        with pytest.raises(ConfigError, match=said):
            compose("train", [*SERVERS, given])
    compose("train", [*SERVERS, "rollout.num_servers=8"])
    compose("evaluate", ["rollout=vllm_server", "rollout.num_servers=1"])


def test_what_the_machine_decides_is_not_refused():
    compose("train", [PAPER, "trainer.devices=auto", "trainer.num_nodes=3"])


@pytest.mark.parametrize(
    ("devices", "number"),
    [(8, 8), ("8", 8), ([0], 1), ([0, 3], 2), ("0,3", 2), ("0,", 1), ("auto", None), (-1, None), ("-1", None)],
)
def test_the_number_of_devices_is_what_lightning_reads(devices: Any, number: int | None):
    assert num_devices(devices) == number
    assert num_ranks({"devices": devices, "num_nodes": 2}) == (number and 2 * number)
