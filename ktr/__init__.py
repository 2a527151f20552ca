"""Token-attributed reinforcement learning on video."""

import sys
from typing import Any


class _BeforeTorchvision:
    """Finds nothing; the first import of torchvision goes past it and gets ``ktr.policy.torchvision_ops`` declared.

    Here, and not where torchvision is used, for processes that others start (Lightning's ranks, vLLM's engine): the
    package itself may be all of ktr that they import before torchvision.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            from ktr.policy import torchvision_ops

            torchvision_ops.declare()


if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, _BeforeTorchvision())
