"""Tokens, operations and seconds of a step on one GPU, by pass.

A pass with many tokens takes its operations at a share of the card's peak; decoding takes the bytes that each token
reads at a share of the memory's, or what the host needs to start its kernels, whichever is more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from ktr.plan.architecture import Architecture
from ktr.plan.flops import Flops
from ktr.plan.memory import cache_bytes, cached_tokens, decoded_rows
from ktr.plan.options import Card, Options
from ktr.plan.parameters import Parameter
from ktr.plan.settings import RunSettings, Span

_GPUS_OF_A_MACHINE = 8
_OPTIMIZER = 7  # AdamW reads weights, gradients and two states, and writes all but the gradients
_MATCHING = 59  # what MatchedAdamW reads and writes beside, operation by operation, for the length of its updates


@dataclass(frozen=True)
class Pass:
    """``tokens`` and operations of all of a GPU's groups in one step, and the seconds they take."""

    name: str
    tokens: int
    flops: float
    seconds: float


def passes(
    model: Architecture, parameters: Sequence[Parameter], run: RunSettings, card: Card, options: Options
) -> list[Pass]:
    """Every pass of a step, in the order in which a step runs them; none that does nothing."""
    flops = Flops(model, parameters)
    found = [*_sampling(flops, run, card, options), *_scoring(flops, run, card, options)]
    return [one for one in found if one.seconds]


def _sampling(flops: Flops, run: RunSettings, card: Card, options: Options) -> Iterator[Pass]:
    """The tower, and what the engine does: vLLM runs a tower of its own, and the policy's one reads other videos."""
    grids, peak = [run.grid] * run.num_groups, _peak(run.compute_bytes, card, options)
    yield _pass("tower", _patches(grids), flops.tower(grids), peak)
    if not run.engine:
        return
    is_vllm = run.engine != "TransformersEngine"
    peak = _peak(run.weight_bytes, card, options) if is_vllm else peak
    videos = 1 + (run.contrast_completions > 0)
    again = grids * (videos - (not is_vllm))
    yield _pass("tower, generation", _patches(again), flops.tower(again), peak)
    prompts = videos * run.num_groups
    yield _pass("prefill", prompts * run.prompt_tokens, flops.prefill(prompts, run.prompt_tokens), peak)
    completions = run.num_groups * (run.num_completions + run.contrast_completions)
    operations = flops.decoding(completions, run.prompt_tokens, run.completion_tokens)
    steps = ceil(completions / decoded_rows(run)) * run.completion_tokens
    seconds = max(steps * _decoding_step(flops, run, card, options), operations / peak)
    yield Pass("decoding", completions * run.completion_tokens, operations, seconds)


def _decoding_step(flops: Flops, run: RunSettings, card: Card, options: Options) -> float:
    """Seconds of one token of each row, by the bytes that are read: weights, and keys and values at half their length.

    The transformers engine casts its weights at each product.
    """
    model = flops.model
    weights = sum(p.count for p in flops.parameters if not p.is_adapter and ".visual." not in p.name)
    read = cached_tokens(run, run.completion_tokens / 2) * cache_bytes(model, run)
    if run.engine != "TransformersEngine":
        return (read + weights * run.weight_bytes) / _bandwidth(card, options)
    read += weights * (run.weight_bytes + 2 * run.compute_bytes * run.casts_weights)
    return max(read / _bandwidth(card, options), model.layers * options.host_ms_per_layer / 1e3)


def _scoring(flops: Flops, run: RunSettings, card: Card, options: Options) -> Iterator[Pass]:
    """Views, reference, and the updates."""
    peak, updates = _peak(run.compute_bytes, card, options), run.updates_per_rollout
    grids, factual = [run.grid] * run.num_groups, [run.span(run.completion_tokens)] * run.num_groups
    tokens, targets = _tokens(factual), sum(span.targets for span in factual)
    trains_tower = flops.tower_backward(grids) > 0
    for view in run.views:
        spans = [run.span(run.completion_tokens, view.kept)] * run.num_groups
        if view.runs_tower:
            yield _pass(f"tower, {view.name}", _patches(grids), flops.tower(grids), peak)
        yield _pass(f"view, {view.name}", _tokens(spans), flops.forward(spans), peak)
    if run.has_reference:
        yield _pass("reference", tokens, flops.forward(factual) + flops.tower(grids) * trains_tower, peak)
    count = run.num_factual
    yield _pass("factual, no gradient", count * tokens, count * flops.forward(factual, entropy=True), peak)
    yield _pass("divergence", run.num_head * targets, run.num_head * flops.head(targets), peak)
    yield _pass("forward", updates * tokens, updates * flops.forward(factual, entropy=True), peak)
    checkpointing = run.gradient_checkpointing
    yield _pass("backward", updates * tokens, updates * flops.backward(factual, checkpointing), peak)
    yield _pass("recomputation", updates * tokens, updates * flops.recomputed(factual) * checkpointing, peak)
    again = (updates - 1) * flops.tower(grids) * trains_tower
    of_tower = updates * flops.tower_backward(grids) + again
    yield _pass("tower, backward", updates * _patches(grids), of_tower, peak)
    if run.is_matched:
        once_more = flops.of_all_tokens(factual) + flops.recomputed(factual) * checkpointing
        once_more += (flops.tower(grids) + flops.tower_backward(grids)) * trains_tower
        yield _pass("gradient of all tokens", updates * tokens, updates * once_more, peak)
    yield Pass("exchange of gradients", 0, 0.0, updates * _exchange(flops.parameters, run, card, options))
    learned = sum(p.count for p in flops.parameters if p.is_trained) * run.weight_bytes / run.shard
    moved = 0 if run.cpu_offload else (_OPTIMIZER + _MATCHING * run.is_matched) * learned
    yield Pass("optimizer", 0, 0.0, updates * moved / _bandwidth(card, options))


def _exchange(parameters: Sequence[Parameter], run: RunSettings, card: Card, options: Options) -> float:
    """Seconds of the gradients' sum over GPUs; with shards, of the weights that each pass gathers too."""
    if run.num_gpus == 1 or not run.is_gpu:
        return 0.0
    is_one_machine = run.num_nodes == 1 and run.num_gpus <= _GPUS_OF_A_MACHINE
    speed = (card.link_gb_s if is_one_machine else options.network_gb_s) * 1e9
    moved = 2 * sum(p.count for p in parameters if p.is_trained) * run.weight_bytes * (1 + run.is_matched)
    if run.shard > 1:
        num_passes = len(run.rows(run.completion_tokens)) * (2 + run.gradient_checkpointing + len(run.views))
        moved += num_passes * sum(p.count for p in parameters) * run.weight_bytes
    return moved * (run.num_gpus - 1) / run.num_gpus / (speed * options.bandwidth_share)


def _pass(name: str, tokens: int, flops: float, peak: float) -> Pass:
    return Pass(name, tokens, flops, flops / peak)


def _peak(num_bytes: int, card: Card, options: Options) -> float:
    """Operations a second of products of numbers of so many bytes."""
    return (card.bf16_tflops if num_bytes == 2 else card.fp32_tflops) * 1e12 * options.share


def _bandwidth(card: Card, options: Options) -> float:
    return card.hbm_gb_s * 1e9 * options.bandwidth_share


def _patches(grids: Sequence[tuple[int, int, int]]) -> int:
    return sum(t * h * w for t, h, w in grids)


def _tokens(spans: Sequence[Span]) -> int:
    return sum(span.tokens for span in spans)
