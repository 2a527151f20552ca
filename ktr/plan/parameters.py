"""Every parameter of a model by name and shape, and which of them a run trains: what its bytes follow from.

Names are transformers' own, so that ``model.freeze`` and the expressions of ``model.lora`` mean here what they mean to
a policy.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ktr.plan.architecture import Architecture

_NOT_LINEAR = ("embed_tokens", "pos_embed", "mlp.gate")  # matrices that are no nn.Linear


@dataclass(frozen=True)
class Parameter:
    """One tensor. ``parts`` are those of ``model.freeze`` that hold it: two where the head is the embeddings.

    ``is_trained`` says whether it gets a gradient, ``is_adapter`` that LoRA added it.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[str, ...]
    is_trained: bool = True
    is_adapter: bool = False

    @property
    def count(self) -> int:
        return prod(self.shape)

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def is_linear(self) -> bool:
        """Whether it is the weight of a linear map (out, in)."""
        matrix = len(self.shape) == 2 and self.name.endswith(".weight") and not self.is_adapter
        return matrix and not self.module.endswith(_NOT_LINEAR)


def parameters(model: Architecture) -> list[Parameter]:
    """All parameters, in the order of ``named_parameters``."""
    return [*_tower(model), *_language(model)]


def trained(model: Architecture, freeze: Sequence[str] = (), lora: Mapping[str, Any] | None = None) -> list[Parameter]:
    """The parameters of a run's policy, adapters behind, each marked as trained or not."""
    everything = [_marked(p, is_trained=not set(p.parts) & set(freeze)) for p in parameters(model)]
    if lora is None:
        return everything
    saved = lora.get("modules_to_save") or ()
    base = [_marked(parameter, is_trained=False) for parameter in everything]
    return base + [added for p in everything if p.is_trained for added in _added(p, lora, saved)]


def _marked(parameter: Parameter, is_trained: bool) -> Parameter:
    return Parameter(parameter.name, parameter.shape, parameter.parts, is_trained)


def _added(parameter: Parameter, lora: Mapping[str, Any], saved: Sequence[str]) -> Iterator[Parameter]:
    """What LoRA adds beside a parameter: two matrices, with DoRA a magnitude; or a copy of a module trained whole."""
    module, parts = parameter.module, parameter.parts
    if any(f".{module}.".find(f".{name}.") >= 0 for name in saved):
        yield Parameter(f"{parameter.name}.saved", parameter.shape, parts, is_adapter=True)
        return
    if not parameter.is_linear or not _is_target(module, lora):
        return
    rank, (out, into) = _rank(module, lora), parameter.shape
    yield Parameter(f"{module}.lora_A.weight", (rank, into), parts, is_adapter=True)
    yield Parameter(f"{module}.lora_B.weight", (out, rank), parts, is_adapter=True)
    if lora.get("lora_bias"):
        yield Parameter(f"{module}.lora_B.bias", (out,), parts, is_adapter=True)
    if lora.get("use_dora"):
        yield Parameter(f"{module}.lora_magnitude_vector", (out,), parts, is_adapter=True)


def _is_target(module: str, lora: Mapping[str, Any]) -> bool:
    """As PEFT chooses: an expression of the whole name, the ends of names, or every linear map but the head."""
    if _is_named(module, lora.get("exclude_modules")):
        return False
    targets, layers = lora.get("target_modules"), lora.get("layers_to_transform")
    if targets == "all-linear":
        return module != "lm_head"
    if targets is None:  # PEFT's own choice for these families
        targets = ["q_proj", "v_proj"]
    if layers is not None:
        number = re.search(r"\.(\d+)\.", module)
        if number is None or int(number[1]) not in ([layers] if isinstance(layers, int) else layers):
            return False
    return _is_named(module, targets)


def _is_named(module: str, names: str | Sequence[str] | None) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names or ())


def _rank(module: str, lora: Mapping[str, Any]) -> int:
    for pattern, rank in (lora.get("rank_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return int(rank)
    return int(lora.get("r", 8))


def _tower(model: Architecture) -> Iterator[Parameter]:
    tower, root = model.tower, "model.visual"
    hidden, merged = tower.hidden, tower.hidden * tower.merge_area
    vision, merger = ("vision",), ("merger",)
    norms_have_bias = model.family != "qwen2_5_vl"
    if model.is_qwen3:
        names = ("mlp.linear_fc1", "mlp.linear_fc2")
    elif model.family == "qwen2_vl":
        names = ("mlp.fc1", "mlp.fc2")
    else:
        names = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    kernel = (hidden, 3, tower.temporal_patch, tower.patch, tower.patch)
    yield Parameter(f"{root}.patch_embed.proj.weight", kernel, vision)
    if model.is_qwen3:
        yield Parameter(f"{root}.patch_embed.proj.bias", (hidden,), vision)
        yield Parameter(f"{root}.pos_embed.weight", (tower.positions, hidden), vision)
    for block in (f"{root}.blocks.{i}" for i in range(tower.depth)):
        for norm in ("norm1", "norm2"):
            yield from _norm(f"{block}.{norm}", hidden, vision, norms_have_bias)
        yield from _linear(f"{block}.attn.qkv", 3 * hidden, hidden, vision)
        yield from _linear(f"{block}.attn.proj", hidden, hidden, vision)
        for name in names[:-1]:
            yield from _linear(f"{block}.{name}", tower.intermediate, hidden, vision)
        yield from _linear(f"{block}.{names[-1]}", hidden, tower.intermediate, vision)
    if not model.is_qwen3:
        yield from _norm(f"{root}.merger.ln_q", hidden, merger, norms_have_bias)
        yield from _linear(f"{root}.merger.mlp.0", merged, merged, merger)
        yield from _linear(f"{root}.merger.mlp.2", model.hidden, merged, merger)
        return
    deeper = [f"{root}.deepstack_merger_list.{i}" for i in range(len(tower.deepstack))]
    for name in (f"{root}.merger", *deeper):
        yield from _norm(f"{name}.norm", merged if name in deeper else hidden, merger, has_bias=True)
        yield from _linear(f"{name}.linear_fc1", merged, merged, merger)
        yield from _linear(f"{name}.linear_fc2", model.hidden, merged, merger)


def _language(model: Architecture) -> Iterator[Parameter]:
    root, hidden, part = "model.language_model", model.hidden, ("language",)
    embeddings = ("embeddings", "head") if model.tied else ("embeddings",)
    yield Parameter(f"{root}.embed_tokens.weight", (model.vocabulary, hidden), embeddings)
    for layer in (f"{root}.layers.{i}" for i in range(model.layers)):
        widths = {"q_proj": model.q_width, "k_proj": model.kv_width, "v_proj": model.kv_width}
        for name, width in widths.items():
            yield from _linear(f"{layer}.self_attn.{name}", width, hidden, part, has_bias=not model.is_qwen3)
        yield from _linear(f"{layer}.self_attn.o_proj", hidden, model.q_width, part, has_bias=False)
        if model.is_qwen3:
            for norm in ("q_norm", "k_norm"):
                yield from _norm(f"{layer}.self_attn.{norm}", model.head_dim, part)
        if model.experts:
            inside, experts = model.intermediate, f"{layer}.mlp.experts"
            yield Parameter(f"{experts}.gate_up_proj", (model.experts, 2 * inside, hidden), part)
            yield Parameter(f"{experts}.down_proj", (model.experts, hidden, inside), part)
            yield Parameter(f"{layer}.mlp.gate.weight", (model.experts, hidden), part)
        else:
            for name in ("gate_proj", "up_proj"):
                yield from _linear(f"{layer}.mlp.{name}", model.intermediate, hidden, part, has_bias=False)
            yield from _linear(f"{layer}.mlp.down_proj", hidden, model.intermediate, part, has_bias=False)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield from _norm(f"{layer}.{norm}", hidden, part)
    yield from _norm(f"{root}.norm", hidden, part)
    if not model.tied:
        yield Parameter("lm_head.weight", (model.vocabulary, hidden), ("head",))


def _linear(name: str, out: int, into: int, parts: tuple[str, ...], has_bias: bool = True) -> Iterator[Parameter]:
    yield Parameter(f"{name}.weight", (out, into), parts)
    if has_bias:
        yield Parameter(f"{name}.bias", (out,), parts)


def _norm(name: str, width: int, parts: tuple[str, ...], has_bias: bool = False) -> Iterator[Parameter]:
    yield Parameter(f"{name}.weight", (width,), parts)
    if has_bias:
        yield Parameter(f"{name}.bias", (width,), parts)
