"""Memory of a GPU by part: what is there all the time, and the fullest of the phases that a step goes through.

A part is exact where it is a sum over tensors (weights, gradients, optimizer, what backward keeps); what kernels take
on their way is an estimate. Completions are taken at their longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from ktr.plan.activations import Activations
from ktr.plan.architecture import Architecture
from ktr.plan.options import Card, Options
from ktr.plan.parameters import Parameter
from ktr.plan.settings import RunSettings

GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes a GPU by part. ``phases`` come one after the other, ``resident`` is there in all of them.

    ``host`` is what it keeps in the host's memory instead.
    """

    resident: dict[str, float]
    phases: dict[str, dict[str, float]]
    available: float
    host: float
    engine_lacks: float  # what vLLM's share is short of its weights and the keys and values of one question

    @cached_property
    def fullest(self) -> str:
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @cached_property
    def peak(self) -> float:
        return sum(self.resident.values()) + sum(self.phases[self.fullest].values())

    @property
    def fits(self) -> bool:
        return self.peak <= self.available and self.engine_lacks <= 0


def memory(
    model: Architecture, parameters: Sequence[Parameter], run: RunSettings, card: Card, options: Options
) -> Memory:
    """What the run holds on ``card``."""
    weights = sum(p.count for p in parameters) * run.weight_bytes
    learned = sum(p.count for p in parameters if p.is_trained) * run.weight_bytes
    activations = Activations(model, parameters, run)
    spans = [run.span(run.max_tokens)] * run.rows(run.max_tokens)[0]
    patches = run.num_groups * run.grid[0] * run.grid[1] * run.grid[2]
    features = run.num_groups * run.visual_tokens * model.features * run.compute_bytes
    engine = run.gpu_memory_utilization * card.memory_gib * GIB if run.colocated else 0.0
    has_copy = run.has_reference and run.lora is None
    spread = {
        "weights": weights / run.shard,
        "gradients": learned / run.shard,
        "optimizer states": (4 if run.is_matched else 2) * learned / run.shard,
        "reference": weights / run.shard * has_copy,
    }
    resident = ({} if run.cpu_offload else spread) | {
        "gathered layers": _gathered(model, parameters, run) * run.gathers,
        "vLLM": 0.0 if run.sleep else engine,
        "tower features": features + activations.tower(patches),
        "rows of the views": len(run.views) * run.num_groups * spans[0].targets * model.hidden * run.weight_bytes,
    }
    head = activations.head(sum(span.targets for span in spans))
    peak = activations.peak(spans)
    steps_on_gpu = run.is_gpu and not run.cpu_offload
    phases = {
        "generation": {"vLLM": engine} if run.sleep else _generation(model, parameters, run),
        "tower": {"a block of the tower": activations.tower_forward(patches)},
        "update": {
            "activations": max(0.0, peak - head),
            "head chunk": min(head, peak),
            "gradient of all tokens": activations.of_all_tokens(spans) if run.is_matched else 0.0,
        },
        # AdamW on a GPU makes one tensor more for each that it steps, all at a time.
        "optimizer step": {"roots of the second moments": learned / run.shard * steps_on_gpu},
    }
    available = (card.memory_gib - options.reserve_gib) * GIB
    return Memory(
        {name: value for name, value in resident.items() if value},
        {name: {part: value for part, value in parts.items() if value} for name, parts in phases.items()},
        available,
        sum(spread.values()) * run.cpu_offload,
        _lacking(model, parameters, run, engine),
    )


def cache_bytes(model: Architecture, run: RunSettings) -> int:
    """Keys and values of one token: in the transformers engine in the precision that attention reads them in."""
    size = run.compute_bytes if run.engine == "TransformersEngine" else run.weight_bytes
    return 2 * model.layers * model.kv_width * size


def decoded_rows(run: RunSettings) -> int:
    """Completions that decode at a time."""
    per_batch = max(1, run.max_rows // run.num_completions)
    return min(run.num_groups, per_batch) * run.num_completions


def cached_tokens(run: RunSettings, length: float) -> float:
    """Tokens whose keys and values are read at a time, ``length`` of a completion: our groups share their prompts."""
    rows = decoded_rows(run)
    prompts = rows // run.num_completions if run.engine == "TransformersEngine" else rows
    return prompts * run.prompt_tokens + rows * length


def _generation(model: Architecture, parameters: Sequence[Parameter], run: RunSettings) -> dict[str, float]:
    """The transformers engine: its cache, a layer of a prefill or of a step, and a spread policy as a whole."""
    if run.engine != "TransformersEngine":
        return {}
    rows = decoded_rows(run)
    tokens = rows // run.num_completions * run.prompt_tokens
    cache = cached_tokens(run, run.max_tokens) * cache_bytes(model, run)
    scores = 3 * rows * model.heads * (run.prompt_tokens + run.max_tokens) * 4
    prefill = tokens * (3 * model.intermediate * run.compute_bytes + 4 * model.hidden * run.weight_bytes)
    logits = 3 * rows * model.vocabulary * 4
    gathered = sum(p.count for p in parameters) * run.compute_bytes * run.gathers
    return {"keys and values": cache, "a layer of the engine": max(prefill, scores) + logits, "gathered": gathered}


def _lacking(model: Architecture, parameters: Sequence[Parameter], run: RunSettings, engine: float) -> float:
    if not run.colocated or not run.is_gpu:
        return -1.0
    weights = sum(p.count for p in parameters if not p.is_adapter) * run.weight_bytes
    question = run.num_completions * (run.prompt_tokens + run.max_tokens) * cache_bytes(model, run)
    return weights + question - engine


def _gathered(model: Architecture, parameters: Sequence[Parameter], run: RunSettings) -> float:
    """What a sharded policy gathers at a time: the parts outside of layers, and two layers, with their gradients."""
    layers = sum(p.count for p in parameters if ".layers." in p.name) / model.layers
    blocks = sum(p.count for p in parameters if ".visual.blocks." in p.name)
    outside = sum(p.count for p in parameters) - layers * model.layers - blocks
    return 2 * (outside + 2 * layers) * run.weight_bytes


def shortest_pass(run: RunSettings) -> int:
    """The lowest ``scorer.max_tokens_per_pass`` that changes something: one group in a row."""
    return ceil(run.span(run.max_tokens).tokens / 256) * 256
