"""Where servers stand: every shipped placement, the nodes in turn, and what cannot name a place."""

import pytest
from hydra.utils import instantiate

from ktr.config.composing import compose
from ktr.errors import ConfigError
from ktr.rollout.servers.placement import Placement
from ktr.rollout.vllm.server import _environment


@pytest.mark.parametrize("name", ["slurm", "ssh"])
def test_a_shipped_placement_reaches_its_node_and_listens_beyond_it(name: str):
    given = ["rollout=vllm_server", f"rollout/placement={name}", "rollout.placement.nodes=[n3,n4]"]
    rollout = compose("train", given).rollout
    placement: Placement = instantiate(rollout.placement, _convert_="all")
    assert rollout.host == "0.0.0.0" and rollout.correction is not None
    commands = [placement.of(server) for server in range(3)]
    assert [node for node, _ in commands] == ["n3", "n4", "n3"]
    assert all(node in " ".join(command) and "{node}" not in " ".join(command) for node, command in commands)


@pytest.mark.parametrize(
    ("nodes", "command", "said"),
    [
        ([], ["ssh", "{node}"], "nodes"),
        ("n3", ["ssh", "{node}"], r"nodes=n3: give a list"),
        (["n3"], ["ssh", "n3"], r"\{node\}"),
        (["n3"], [], r"it is empty"),
    ],
)
def test_what_names_no_place_is_refused(nodes: list[str], command: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        Placement(nodes, command)


def test_a_server_elsewhere_gets_what_concerns_it_and_no_place_among_the_ranks(monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "NCCL_SOCKET_IFNAME", "CUDA_VISIBLE_DEVICES", "HOSTNAME"):
        monkeypatch.setenv(name, "7")
    environment = _environment("key", None)
    assert environment["RANK"] is None and environment["NCCL_SOCKET_IFNAME"] == "7"
    assert not {"CUDA_VISIBLE_DEVICES", "HOSTNAME"} & set(environment)  # the node has its own
    assert _environment("key", "2,3")["CUDA_VISIBLE_DEVICES"] == "2,3"
