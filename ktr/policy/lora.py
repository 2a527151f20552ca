"""Adapters by PEFT: which of its options are taken, which layers may have them, and the weights as if there were none.

What is merged is merged by PEFT's own layers, on a copy of one layer at a time, so that every variant they know (DoRA,
rank-stabilised, biases of adapters, embeddings, convolutions) is pushed and saved as it was trained. An option is
taken if the policy without its adapters is still the model that training started from, for that is the reference, and
if one set of plain weights can say what was trained. All others are refused: an option that PEFT will invent, too.
"""

import copy
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, set_peft_model_state_dict
from peft.tuners.lora import Conv2d, Conv3d, Embedding, Linear, LoraLayer
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from ktr.errors import ConfigError, MissingModel
from ktr.ranks import is_spread, whole

_TAKEN = {
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias", "init_lora_weights",
    "task_type", "peft_type",
}  # fmt: skip
_VALUES = {
    "init_lora_weights": ((True, False, "gaussian", "orthogonal"), "others change the base weights, and with them the "
                          "reference, or need data"),
    "peft_type": ((None, "LORA"), "adapters are those of LoRA"),
}  # fmt: skip
_REMEDIES = {
    "bias": "the reference, which is the policy without adapters, would move with the biases; lora_bias=true trains "
    "biases of the adapters",
    "inference_mode": "it would train nothing",
}
_LAYERS = (Linear, Embedding, Conv2d, Conv3d)
# The first part of a state dict's name in a layer that has an adapter, or in a module that is trained whole.
_INSIDE = re.compile(r"\.(?:base_layer|lora_\w+|original_module|modules_to_save)\.")


def add_adapters(model: Any, options: Mapping[str, Any], frozen: Collection[nn.Module]) -> None:
    """Freeze ``model`` and add adapters to it as ``options``, the arguments of PEFT's ``LoraConfig``, say.

    Nothing inside a module of ``frozen`` gets one. Raises ``ConfigError`` for an option that would not be honoured.
    """
    _check_options(options)
    _check_names(model, options)
    tied = _is_tied(model)
    names = [name for name, module in model.named_modules() if any(module is part for part in frozen)]
    for name in options.get("modules_to_save") or []:
        entire = [full for full, _ in model.named_modules() if full == name or full.endswith("." + name)]
        for full in entire:
            if any(_is_at(full, at) or _is_at(at, full) for at in names):
                raise ConfigError(f"model.lora.modules_to_save: {name} is {full}, of which model.freeze keeps a part")
    excluded = _expressions(options.get("exclude_modules")) + [rf"{re.escape(name)}(?:\..*)?" for name in names]
    model.requires_grad_(False)
    try:
        arguments: dict[str, Any] = dict(options) | {"exclude_modules": "|".join(excluded) or None}
        config = LoraConfig(**arguments)
        model.add_adapter(config)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.lora: {_one_line(error)}") from error
    if tied:
        _refuse_tied(model, "model.lora")
    _check_layers(model, config)


def _check_options(options: Mapping[str, Any]) -> None:
    defaults = LoraConfig()
    for field in fields(LoraConfig):
        name, value = field.name, options.get(field.name)
        if name not in options or value == getattr(defaults, name):
            continue
        if name not in _TAKEN:
            reason = _REMEDIES.get(name, "it is not supported")
            raise ConfigError(f"model.lora.{name}={value}: {reason}; leave it out")
        accepted, reason = _VALUES.get(name, ((value,), ""))
        if value not in accepted:
            choices = ", ".join(str(choice).lower() for choice in accepted if choice is not None)
            raise ConfigError(f"model.lora.{name}={value}: {reason}; choose from {choices}")


def _check_names(model: Any, options: Mapping[str, Any]) -> None:
    """Raise where a name of a list is no module's: PEFT would leave it out without a word, if another one is found."""
    modules, parameters = ([name for name, _ in found] for found in (model.named_modules(), model.named_parameters()))
    for key in ("target_modules", "modules_to_save"):
        asked_for = options.get(key) or []
        for name in asked_for if isinstance(asked_for, list | tuple) else ():
            if not any(f".{module}".endswith(f".{name}") for module in modules):
                fused = any(f".{parameter}".endswith(f".{name}") for parameter in parameters)
                reason = "are fused experts, which take no adapters" if fused else "are nowhere in this model"
                raise ConfigError(f"model.lora.{key}: layers called {name} {reason}; leave it out")


def _check_layers(model: Any, config: LoraConfig) -> None:
    for name, layer in adapted_modules(model).items():
        if isinstance(layer, ModulesToSaveWrapper):
            continue
        if not isinstance(layer, _LAYERS):
            raise ConfigError(f"model.lora: {name} is a {type(layer).__name__}, whose adapters are not supported")
        if layer is model.get_output_embeddings():
            raise ConfigError(
                f"model.lora: {name} is the head, which is used by its weight; leave it out of target_modules, or "
                f"train it whole by modules_to_save=[{name}]"
            )
        if config.lora_bias and getattr(layer.get_base_layer(), "bias", None) is None:
            raise ConfigError(
                f"model.lora.lora_bias=true: {name} has no bias that an adapter's could be merged into; "
                "leave it out of target_modules"
            )


def _is_tied(model: Any) -> bool:
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def _refuse_tied(model: Any, key: str) -> None:
    """No plain model whose embeddings are its head could hold what was trained of one of them."""
    for name, module in adapted_modules(model).items():
        if module is model.get_input_embeddings() or module is model.get_output_embeddings():
            raise ConfigError(f"{key}: {name} is embeddings and head in one, by tie_word_embeddings; leave it out")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _is_at(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def _expressions(given: str | list[str] | None) -> list[str]:
    """PEFT's ``exclude_modules``, an expression or a list of the ends of names, as expressions of whole names."""
    if isinstance(given, str):
        return [f"(?:{given})"]
    return [rf"(?:.*\.)?{re.escape(name)}" for name in given or []]


def adapted_modules(model: nn.Module) -> dict[str, Any]:
    """The layers with an adapter, and the modules that are trained whole beside them, by name."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, LoraLayer | ModulesToSaveWrapper)
    }


def lora_rank(model: nn.Module) -> int:
    """The largest rank of an adapter; 0 without adapters."""
    layers = [module for module in adapted_modules(model).values() if isinstance(module, LoraLayer)]
    return max((rank for layer in layers for rank in layer.r.values()), default=0)


def only_merged(model: nn.Module) -> str | None:
    """What of the adapters an engine that loads them beside the base weights doesn't know; None if it knows all."""
    for name, layer in adapted_modules(model).items():
        if not isinstance(layer, Linear):
            return f"{name}, which is not a linear layer" if isinstance(layer, LoraLayer) else f"all of {name}"
        if layer.lora_variant:
            return "DoRA"
        if any(layer.lora_bias.values()):
            return "lora_bias"
    return None


class NamedWeights:
    """(name, tensor) pairs of a model as if it had no adapters; each pass makes merged tensors one layer at a time.

    ``merge`` gives the weights that were trained; else those before training. Of a model that is spread over ranks each
    pass gathers one tensor or layer at a time, and is to be made on all of them.
    """

    def __init__(self, model: nn.Module, merge: bool):
        self._model, self._adapted, self._merge = model, adapted_modules(model), merge

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        given = set()
        for name, tensor in self._model.state_dict().items():
            place = _INSIDE.split(name, 1)[0]
            if place not in self._adapted:
                yield name, whole(tensor)
            elif place not in given:
                given.add(place)
                plain = _plain(self._adapted[place], self._merge)
                yield from ((f"{place}.{rest}", whole(tensor)) for rest, tensor in plain.state_dict().items())


def _plain(module: Any, merge: bool) -> nn.Module:
    """The module as a model without adapters would have it."""
    if isinstance(module, ModulesToSaveWrapper):
        return module.modules_to_save[module.active_adapters[0]] if merge else module.original_module
    if merge:
        spread = [parameter for parameter in module.parameters() if is_spread(parameter)]
        instead = {id(parameter): nn.Parameter(whole(parameter), requires_grad=False) for parameter in spread}
        module = copy.deepcopy(module, instead)
        module.merge()
    return module.get_base_layer()


def load_adapters(model: Any, folder: Path) -> None:
    """Give the adapters of ``model`` the values that PEFT saved in ``folder``.

    Raises ``MissingModel`` where there are none, and ``ConfigError`` where they are not those of this model.
    """
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise MissingModel(f"no {path.name} in {folder}: it holds no adapter, or none saved as safetensors")
    # The names of models of before transformers 4.52 (visual, model.layers) become today's, as in a model's own files.
    renamings = [rule for rule in get_model_conversion_mapping(model) if type(rule) is WeightRenaming]
    state = {
        rename_source_key(name.removeprefix("base_model.model."), renamings, [])[0]: tensor
        for name, tensor in load_file(path).items()
    }
    try:
        result = set_peft_model_state_dict(model, state)
    except (KeyError, RuntimeError) as error:  # a part that is trained whole is missing; another shape
        raise ConfigError(f"{folder}: its adapter is not one of this model: {_one_line(error)}") from error
    missing = [name for name in result.missing_keys if ".lora_" in name]
    if unfit := sorted([*missing, *result.unexpected_keys]):
        raise ConfigError(
            f"{folder}: {len(unfit)} of its adapter's tensors are not those of this model, such as {unfit[0]}; "
            "choose the model that it was trained on (model.path)"
        )


def merge_folder(model: Any, folder: Path) -> None:
    """Merge the adapter that PEFT saved in ``folder`` into the weights of ``model``. Raises as ``load_adapters``."""
    if not (folder / "adapter_config.json").is_file():
        raise MissingModel(f"no adapter_config.json in {folder}: model.adapter takes a folder that PEFT saved")
    tied = _is_tied(model)
    try:
        model.add_adapter(PeftConfig.from_pretrained(str(folder)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{folder}: its adapter is not one of this model: {_one_line(error)}") from error
    if tied:
        _refuse_tied(model, "model.adapter")
    load_adapters(model, folder)
    for name, module in adapted_modules(model).items():
        model.set_submodule(name, _plain(module, merge=True))
    del model.peft_config
    model._hf_peft_config_loaded = False
    model.requires_grad_(True)
