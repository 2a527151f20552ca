"""On which nodes the run's servers stand, and the command that starts a process there."""

from collections.abc import Sequence
from dataclasses import dataclass

from ktr.errors import ConfigError


@dataclass(frozen=True)
class Placement:
    """``command`` runs on ``{node}`` what is appended to it, and hands its stdin and stdout on, as srun and ssh do.

    Servers take the ``nodes`` in turn. Each node has the environment and the runs' folder at the paths that they have
    here. Raises ``ConfigError`` on no node and on a command that would start all servers in one place.
    """

    nodes: Sequence[str]
    command: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.nodes, str) or not self.nodes:
            raise ConfigError(
                f"rollout.placement.nodes={self.nodes}: give a list of nodes, as in [node3,node4]; servers beside the "
                "trainer are rollout/placement=here"
            )
        if not any("{node}" in word for word in self.command):
            raise ConfigError(
                f"rollout.placement.command: {' '.join(self.command) or 'it is empty'}; one of its words must hold "
                "{node}, the node's name"
            )

    def of(self, server: int) -> tuple[str, list[str]]:
        """The node of a server and the command that starts a process there."""
        node = self.nodes[server % len(self.nodes)]
        return node, [word.replace("{node}", node) for word in self.command]
