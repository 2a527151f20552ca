"""A device that is none: tensors on it compute on the CPU, and refuse what a GPU's refuse.

A tensor of the host beside one of the card is an error, but for one number, an index and a copy; so is a generator of
the host. It is torch's PrivateUse1 with Python behind it, for all of a process: see ``tests.spawned.in_own_process``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}  # an index is copied over
TAKE_ONE_NUMBER = {aten.where.self, aten.masked_fill.Tensor, aten.masked_fill_.Tensor}


class Card(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("card", backend_module=Card())
torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter that moves stays the same object
CARD = torch.device("card", 0)


class OnCard(torch.Tensor):
    """A tensor on the card; ``held`` is where its numbers are."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnCard":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.size(), device=CARD, **layout)  # pyright: ignore
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __format__(self, form: str) -> str:
        return format(self.cpu(), form)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        whole = func.decompose(*args, **(kwargs or {}))
        return computed(func, *args, **(kwargs or {})) if whole is NotImplemented else whole


def computed(func: Any, *args: Any, **kwargs: Any) -> Any:
    """The operation on what the tensors hold; on the card where a tensor of it takes part, or it is asked for."""
    tensors: list[torch.Tensor] = []
    _each(lambda x: tensors.append(x), (args, kwargs))
    on_card = any(isinstance(x, OnCard) for x in tensors)
    if on_card and func not in COPIES:
        _refuse_mixed(func, args, tensors, kwargs.get("generator"))
    if kwargs.get("device") is not None:
        on_card = torch.device(kwargs["device"]).type == "card"
        kwargs |= {"device": "cpu"}
    kept = {id(x.held): x for x in tensors if isinstance(x, OnCard)}  # of an operation in place
    args, kwargs = _each(lambda x: x.held if isinstance(x, OnCard) else x, (args, kwargs))
    results = func(*args, **kwargs)
    return _each(lambda x: kept[id(x)] if id(x) in kept else OnCard(x), results) if on_card else results


def _each(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """The value with each tensor changed that is in it."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(change, item) for key, item in value.items()}
    return type(value)(_each(change, item) for item in value) if isinstance(value, list | tuple) else value


def _refuse_mixed(func: Any, args: Any, tensors: list[torch.Tensor], generator: torch.Generator | None) -> None:
    if func in INDEXING and isinstance(args[0], OnCard):
        return
    takes_number = torch.Tag.pointwise in func.tags or func in TAKE_ONE_NUMBER
    if generator is not None or any(not isinstance(x, OnCard) and (x.ndim or not takes_number) for x in tensors):
        places = [f"{tuple(x.shape)} on {x.device}" for x in tensors]
        raise RuntimeError(f"{func} of {', '.join(places)}, generator={generator}")


def _put(op: Any) -> None:
    _made.impl(op, lambda *args, **kwargs: computed(op, *args, **kwargs), "PrivateUse1")


_every = torch.library.Library("_", "IMPL")
_every.fallback(computed, "PrivateUse1")
_made = torch.library.Library("aten", "IMPL")  # what torch would else make of other operations, without a shape
for _op in (aten.lift_fresh, aten._to_copy, aten.arange, aten.randperm, aten.eye):
    for _name in _op.overloads():
        if "out" not in _name:
            _put(getattr(_op, _name))
