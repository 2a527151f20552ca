"""Adapters of a model: their layers, and its weights as if it had none."""

import re
from collections.abc import Iterator
from typing import cast

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

_ADAPTER = re.compile(r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)\.")


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The layers that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


class NamedWeights:
    """(name, tensor) pairs of a model as if it had no adapters; each pass makes merged tensors one at a time.

    ``merge`` adds the adapters to the weights of their layers; else they are left out.
    """

    def __init__(self, model: nn.Module, merge: bool):
        self._model, self._lora_layers, self._merge = model, lora_layers(model), merge

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._model.state_dict().items():
            layer_name, _, rest = name.partition(".base_layer.")
            layer = self._lora_layers.get(layer_name)
            if rest and layer is not None:
                if rest == "weight" and self._merge:
                    deltas = [cast(Tensor, layer.get_delta_weight(adapter)) for adapter in layer.active_adapters]
                    tensor = tensor + torch.stack(deltas).sum(0).to(tensor)
                yield f"{layer_name}.{rest}", tensor
            elif not _ADAPTER.search(name):
                yield name, tensor


@torch.no_grad()
def merge_into(plain: nn.Module, adapted: nn.Module) -> None:
    """Give ``plain`` the weights of the layers that have adapters in ``adapted``, merged; the others it has already."""
    layers = lora_layers(adapted)
    for name, weight in NamedWeights(adapted, merge=True):
        if name.removesuffix(".weight") in layers:
            plain.get_parameter(name).copy_(weight)
