"""The card of an exported policy: how it is asked, what it was measured at, how it came about, what it is not."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from pprint import pformat
from typing import Any

import yaml
from hydra.utils import instantiate
from jinja2 import Environment, PackageLoader, StrictUndefined

from ktr.config.as_trained import is_ours
from ktr.data.prompts import PromptTemplate
from ktr.export.chosen_weights import Weights
from ktr.export.measured import benchmarks, held_out
from ktr.export.origin import Origin
from ktr.export.training_settings import SIGNALS, setting, training_settings
from ktr.record.json_file import read_object
from ktr.types import MediaFile, ProblemType, VideoQuestion

VERSIONS = ("torch", "transformers", "lightning", "peft", "vllm")
ASKED = "What happens first?"


def model_card(
    run_dir: Path,
    config: Mapping[str, Any],
    weights: Weights,
    origin: Origin,
    tokenizer: Any,
    dtype: str,
    results: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Markdown with a YAML head, from the run's folder; ``results`` are those of evaluations."""
    record, summary = (read_object(run_dir / f"{name}.json") or {} for name in ("record", "summary"))
    name, labels = run_dir.resolve().name, config.get("labels") or {}
    method = str(labels.get("algorithm") or "a method without a name")
    video, with_rewards = config["video"], "demonstrations" not in config["algorithm"]
    head = {
        "base_model": origin.name,
        "library_name": "transformers",
        "pipeline_tag": "video-text-to-text",
        "tags": ["video", "reinforcement-learning" if with_rewards else "sft", "ktr", method.replace("_", "-")],
        **origin.license,
    }
    prompt = _prompt(config["prompt"])
    return _environment().get_template("model_card.md.jinja").render(
        head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True),
        name=name,
        method=method,
        signals=labels.get("attribution") if setting(config, SIGNALS) else None,
        origin=origin,
        dtype=dtype,
        updates=summary.get("num_updates") if weights.is_final else weights.step,
        video=video,
        pixels=" to ".join(dict.fromkeys(f"{video[key]:,}" for key in ("min_pixels", "max_pixels"))),
        sampling={"top_p": 1.0, **config["sampling"]},
        prompt=_written(prompt, tokenizer) if prompt else None,
        sentences=dict(prompt.type_sentences) if prompt else {},
        node=yaml.safe_dump(config["prompt"], sort_keys=False, allow_unicode=True),
        messages=pformat((prompt or PromptTemplate()).messages(_question("free-form")), width=100, sort_dicts=False),
        held_out=held_out(run_dir, summary, weights),
        benchmarks=[*map(benchmarks, results)],
        settings=dict(training_settings(config)),
        record=record,
        versions={name: version for name, version in record.get("packages", {}).items() if name in VERSIONS},
        machine=_machine(record),
        duration=timedelta(seconds=round(summary.get("training_wall_seconds", 0))) if weights.is_final else None,
    )  # fmt: skip


def _prompt(node: Mapping[str, Any]) -> PromptTemplate | None:
    """The template of the prompt; None where it is of a class from elsewhere."""
    return instantiate(node) if is_ours(node) else None


def _written(template: PromptTemplate, tokenizer: Any) -> str:
    """The whole prompt of a question with options, as the policy is given it."""
    messages = template.messages(_question("multiple choice", "{question}", ("{first option}", "{second option}")))
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _question(kind: ProblemType, problem: str = ASKED, options: tuple[str, ...] = ()) -> VideoQuestion:
    return VideoQuestion("", problem, kind, "", (MediaFile(Path("clip.mp4"), "video"),), options)


def _machine(record: Mapping[str, Any]) -> str:
    machine = record.get("machine") or {}
    gpus = machine.get("gpus") or []
    cpu = f"{machine['cpu']}, {machine.get('cpu_count')} cores" if machine.get("cpu") else ""
    return ", ".join([*(f"{gpus.count(gpu)} × {gpu}" for gpu in dict.fromkeys(gpus)), *([cpu] if cpu else [])])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ktr.export"),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda value: " ".join(str(value).split()).replace("|", "\\|")
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment
