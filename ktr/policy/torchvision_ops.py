"""Lets a torchvision wheel built for CUDA import beside a CPU-only torch; ``ktr`` sees to it that it happens in time.

Its compiled operators cannot load there, and the import dies while registering fake kernels for operators that do not
exist. Declaring their schemas first is enough: transforms, all that the processors need, are Python. The operators
themselves stay without a kernel and say so when called.
"""

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None


def declare() -> None:
    """Declare the schemas once; does nothing where torch has an accelerator build and the real operators load."""
    global _library
    if _library is not None or torch.version.cuda is not None or torch.version.hip is not None:
        return
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        _library.define(schema)
