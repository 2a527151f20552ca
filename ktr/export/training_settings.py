"""What a run was set to, in the words of its card."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

SIGNALS = "algorithm.weighting.signals"
SETTINGS = {
    "training data": "data.train",
    "held-out data": "data.validation",
    "questions a step": "data.questions_per_step",
    "completions of a question": "algorithm.sampling.num_completions",
    "longest completion, in tokens": "sampling.max_tokens",
    "temperature": "sampling.temperature",
    "rewards, by weight": "reward.weights",
    "token signals": SIGNALS,
    "share of tokens that a signal selects": "algorithm.weighting.selection.ratio",
    "signals are joined by": "algorithm.weighting.combine",
    "clipping of the ratio, below": "algorithm.loss.clip_low",
    "clipping of the ratio, above": "algorithm.loss.clip_high",
    "weight of the KL term": "algorithm.loss.beta",
    "updates a batch": "algorithm.updates_per_rollout",
    "form of demonstrations": "algorithm.demonstrations.form",
    "learning rate": "optimizer.lr",
    "warm-up, in updates": "optimizer.warmup_steps",
    "weight decay": "optimizer.weight_decay",
    "bound on the gradient's norm": "optimizer.max_grad_norm",
    "frozen parts": "model.freeze",
    "adapters": "model.lora",
    "adapter merged in before": "model.adapter",
    "precision": "trainer.precision",
    "rollouts by": "rollout._target_",
    "seed": "seed",
}


def training_settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each setting by what it means; what is null, empty or not there is left out, as are those of absent signals."""
    for meaning, key in SETTINGS.items():
        value = setting(config, key)
        is_of_signals = key.startswith("algorithm.weighting.")
        if value not in (None, "", [], {}) and (setting(config, SIGNALS) or not is_of_signals):
            yield meaning, WRITERS.get(key, _plain)(value)


def setting(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(child)}" for name, child in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _names(value: Mapping[str, Any]) -> str:
    return ", ".join(value)


def _class(value: str) -> str:
    return value.rpartition(".")[2]


def _data(node: Mapping[str, Any]) -> str:
    """The file of rows, or the class that makes them, and how many there are where that is set."""
    if parts := node.get("parts"):
        take = node.get("take") or {}
        told = {name: f" ({_plain(take[name])})" if name in take else "" for name in parts}
        return " and ".join(f"{_data(part)}{told[name]}" for name, part in parts.items())
    name = Path(node["annotations"]).name if "annotations" in node else _class(node.get("_target_", "rows"))
    number = node.get("num_questions") or node.get("limit")
    return f"{name}, {number:,} questions" if number else name


WRITERS: Mapping[str, Callable[[Any], str]] = {
    "data.train": _data,
    "data.validation": _data,
    SIGNALS: _names,
    "model.adapter": lambda value: Path(value).name,
    "rollout._target_": _class,
}
