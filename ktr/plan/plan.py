"""The plan of one run: its memory, its passes, its length, and what makes it fit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from ktr.plan.architecture import Architecture, read_architecture
from ktr.plan.duration import Pass, passes
from ktr.plan.memory import Memory, memory, shortest_pass
from ktr.plan.options import Card, Options, read_card
from ktr.plan.parameters import Parameter, trained
from ktr.plan.settings import RunSettings, read_settings

_MOST_CHANGES = 3
_MOST_REMEDIES = 6
_PARTS = ("vision", "merger", "language", "embeddings", "head")
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, eq=False)
class Remedy:
    """A change of the command line. ``changes_results``: another policy is learned, or in other precision."""

    words: str
    settings: Mapping[str, Any]
    changes_results: bool = False


@dataclass(frozen=True)
class Plan:
    """A run on a card."""

    run: RunSettings
    model: Architecture
    card: Card
    options: Options

    @cached_property
    def parameters(self) -> list[Parameter]:
        return trained(self.model, self.run.freeze, self.run.lora)

    @cached_property
    def memory(self) -> Memory:
        return memory(self.model, self.parameters, self.run, self.card, self.options)

    @cached_property
    def passes(self) -> list[Pass]:
        return passes(self.model, self.parameters, self.run, self.card, self.options)

    @property
    def seconds(self) -> float:
        """Of a step: what all its updates take, one pass after the other."""
        return sum(one.seconds for one in self.passes)

    @property
    def hours(self) -> float | None:
        """Of the run, without validation; None where its length is given in epochs."""
        if self.run.num_updates is None:
            return None
        return self.seconds * self.run.num_updates / self.run.updates_per_rollout / 3600

    @cached_property
    def remedies(self) -> list[tuple[Remedy, ...]]:
        """The smallest sets of changes under which the run fits, of at most three; those that keep its results first.

        No set holds another one.
        """
        if self.memory.fits:
            return []
        found: list[tuple[Remedy, ...]] = []
        offered = list(self._offered())
        for size in range(1, _MOST_CHANGES + 1):
            for chosen in combinations(offered, size):
                changed = [key for remedy in chosen for key in remedy.settings]
                if len(changed) != len(set(changed)) or any(set(known) <= set(chosen) for known in found):
                    continue
                settings = {key: value for remedy in chosen for key, value in remedy.settings.items()}
                run = replace(self.run, **settings)
                if run.cpu_offload and not self.run.cpu_offload and run.shard == 1:
                    continue
                if replace(self, run=run).memory.fits:
                    found.append(chosen)
        found.sort(key=lambda chosen: (sum(remedy.changes_results for remedy in chosen), len(chosen)))
        return found[:_MOST_REMEDIES]

    def _offered(self) -> Iterator[Remedy]:
        run = self.run
        if run.rows(run.max_tokens)[0] > 1:
            tokens = shortest_pass(run)
            yield Remedy(f"scorer.max_tokens_per_pass={tokens}", {"max_tokens_per_pass": tokens})
        if run.chunk_size > 128:
            yield Remedy("scorer.chunk_size=128", {"chunk_size": 128})
        if run.loads_folder and not run.gradient_checkpointing:
            yield Remedy("model.gradient_checkpointing=true", {"gradient_checkpointing": True})
        if run.colocated and not run.sleep:
            yield Remedy("rollout.sleep=true", {"sleep": True})
        if run.colocated and run.gpu_memory_utilization < 0.5:
            yield Remedy("rollout.gpu_memory_utilization=0.5", {"gpu_memory_utilization": 0.5})
        if run.is_gpu and run.can_spread:
            if run.num_gpus > 1 and run.shard == 1:
                yield _spread(run, run.num_nodes, run.num_gpus // run.num_nodes)
            for nodes in (1, 2, 4):
                if 8 * nodes > run.num_gpus and run.questions_per_step % (8 * nodes) == 0:
                    yield _spread(run, nodes, 8)
            if not run.cpu_offload:
                yield Remedy("trainer.strategy.cpu_offload=true", {"cpu_offload": True})
        if run.loads_folder:
            yield from self._of_the_model()

    def _of_the_model(self) -> Iterator[Remedy]:
        run = self.run
        freeze = tuple(dict.fromkeys([*run.freeze, "vision", "merger"]))
        if set(freeze) > set(run.freeze) and set(freeze) < set(_PARTS):
            yield Remedy(f"model.freeze=[{','.join(freeze)}]", {"freeze": freeze}, changes_results=True)
        if run.dtype == "float32" and run.is_gpu:
            bf16 = {"dtype": "bfloat16", "is_mixed": False}
            yield Remedy("model.dtype=bfloat16 trainer.precision=32-true", bf16, changes_results=True)
        if run.lora is None:
            targets = _ATTENTION if self.model.experts else "all-linear"  # experts are fused, and take none
            words = f"[{', '.join(targets)}]" if self.model.experts else targets
            lora = {"lora": {"r": 16, "target_modules": targets}}
            yield Remedy(f'model.lora="{{r: 16, target_modules: {words}}}"', lora, changes_results=True)


def _spread(run: RunSettings, num_nodes: int, devices: int) -> Remedy:
    """Over so many nodes. What trainer=fsdp2 has of its own is said where the run has it otherwise."""
    words = ["trainer=fsdp2"]
    if num_nodes > 1 or run.num_nodes > 1:
        words.append(f"trainer.num_nodes={num_nodes}")
    words.append(f"trainer.devices={devices}")
    if not run.is_mixed:
        words.append("trainer.precision=32-true")
    gpus = num_nodes * devices
    return Remedy(" ".join(words), {"num_gpus": gpus, "num_nodes": num_nodes, "shard": gpus})


def make_plan(config: Mapping[str, Any], options: Options) -> Plan:
    """The plan of a resolved config of ``ktr.train``.

    Raises ``MissingModel`` and ``ConfigError`` as ``read_architecture``, ``read_settings`` and ``read_card`` do.
    """
    model = read_architecture(Path(config["model"]["path"]))
    return Plan(read_settings(config, model, options), model, read_card(options.card), options)


def as_object(plan: Plan) -> dict[str, Any]:
    """A plan for scripts: bytes, operations and seconds as they are."""
    run, spent = plan.run, plan.memory
    return {
        "name": run.name,
        "card": plan.options.card,
        "num_gpus": run.num_gpus,
        "shard": run.shard,
        "parameters": sum(p.count for p in plan.parameters),
        "trained_parameters": sum(p.count for p in plan.parameters if p.is_trained),
        "prompt_tokens": run.prompt_tokens,
        "visual_tokens": run.visual_tokens,
        "completion_tokens": run.completion_tokens,
        "fits": spent.fits,
        "memory": {
            "available": spent.available,
            "peak": spent.peak,
            "fullest": spent.fullest,
            "resident": spent.resident,
            "phases": spent.phases,
            "host": spent.host,
            "engine_lacks": max(0.0, spent.engine_lacks),
        },
        "passes": [vars(one) for one in plan.passes],
        "step_seconds": plan.seconds,
        "run_hours": plan.hours,
        "remedies": [[remedy.words for remedy in chosen] for chosen in plan.remedies],
    }
