"""An engine beside the trainer, as a target that a command line can name."""

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from tests.unit.training.overlapped_run import NeighbourEngine


class Neighbour(NeighbourEngine):
    """Generates one batch ahead, from the weights that were pushed."""

    def __init__(self, policy: QwenVLPolicy, overlap: int = 1, max_staleness: int = 3, max_rows: int = 256):
        super().__init__(policy.path, overlap)
        self.max_staleness = max_staleness
