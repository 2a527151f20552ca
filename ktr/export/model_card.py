"""The card of an exported policy: what it is, how it came about, what it was measured at, how it is asked."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

SNIPPET = """\
```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{folder}", dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained("{folder}")
```

```
vllm serve {folder}
python -m ktr.evaluate model.path={folder} benchmark=own benchmark.annotations=a.json benchmark.media_root=clips
```
"""
SETTINGS = {
    "questions a step": "data.questions_per_step",
    "completions of a question": "sampling.num_completions",
    "longest completion, in tokens": "sampling.max_tokens",
    "temperature": "sampling.temperature",
    "learning rate": "optimizer.lr",
    "frozen parts": "model.freeze",
    "adapters": "model.lora",
}


def model_card(
    name: str,
    config: Mapping[str, Any],
    record: Mapping[str, Any],
    summary: Mapping[str, Any],
    step: int | None = None,
    results: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Markdown with a YAML head. ``step`` is that of a checkpoint; ``results`` are those of evaluations."""
    start, labels = Path(str(config["model"]["path"])).name, config.get("labels", {})
    head = {
        "library_name": "transformers",
        "pipeline_tag": "video-text-to-text",
        "base_model": start,
        "tags": ["video", "reinforcement-learning", "ktr", str(labels.get("algorithm", "")).replace("_", "-")],
    }
    method = f"{labels.get('algorithm', 'a method')}, token signals: {labels.get('attribution', 'none')}"
    updates = step if step is not None else summary.get("num_updates")
    video = config["video"]
    lines = [
        "---", yaml.safe_dump(head, sort_keys=False).rstrip(), "---", "",
        f"# {name}", "",
        f"A policy that ktr trained from {start} by {method}, {updates} updates.", "",
        "## How it is asked", "",
        f"{video['num_frames']} frames of each video, spread evenly, of {video['min_pixels']} to {video['max_pixels']} "
        "pixels. Behind the question and its options stands:", "",
        *_quoted(config["prompt"]), "",
        "`ktr.yaml` holds frames, prompt and sampling as the run had them: ktr asks the policy with them.", "",
        SNIPPET.format(folder=name),
        "## What it was measured at", "", *_measured(summary, results), "",
        "## How it was trained", "", *_settings(config, record), "",
        "## What it is not", "",
        "Measured on the questions above, and on no others. Its reasoning was rewarded for leading to right answers; "
        "it need not be why it gives them.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _quoted(prompt: Mapping[str, Any]) -> Iterator[str]:
    from ktr.data.prompts import INSTRUCTION, TYPE_SENTENCES

    instruction = prompt.get("instruction", INSTRUCTION)
    sentences = prompt.get("type_sentences")
    sentences = TYPE_SENTENCES if sentences is None else sentences
    if prompt.get("system"):
        yield f"> (system) {prompt['system']}"
    yield f"> {instruction}" if instruction else "> nothing: the question alone"
    for kind, sentence in sentences.items():
        yield ">"
        yield f"> ({kind}) {sentence}"


def _measured(summary: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (f"held-out questions, {way}", figures["accuracy"], figures["low"], figures["high"], figures["n"])
        for way, figures in summary.get("accuracy_after", {}).items()
        if figures.get("accuracy") is not None
    ]
    for result in results:
        found, identity = result["summary"], result["identity"]
        if found["accuracy"] is not None:
            about = f"{result['benchmark']}, {identity['video']['num_frames']} frames, rule {identity['rule']}"
            rows.append((about, found["accuracy"], found["accuracy_low"], found["accuracy_high"], found["n"]))
    if not rows:
        yield "Nothing yet."
        return
    yield "| | accuracy | 95 % interval | n |"
    yield "|---|---|---|---|"
    for about, accuracy, low, high, n in rows:
        yield f"| {about} | {100 * accuracy:.1f} | {100 * low:.1f} to {100 * high:.1f} | {n} |"


def _settings(config: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    told = {name: _at(config, key) for name, key in SETTINGS.items()}
    git, packages = record.get("git") or {}, record.get("packages", {})
    machine = record.get("machine", {})
    told |= {
        "seed": config.get("seed"),
        "data": Path(str(_at(config, "data.train.annotations") or _at(config, "data.train._target_"))).name,
        "started": record.get("started"),
        "commit of ktr": f"{git['commit'][:12]}{', with changes' if git.get('dirty') else ''}" if git else None,
        "versions": ", ".join(
            f"{name} {packages[name]}" for name in ("torch", "transformers", "vllm") if name in packages
        ),
        "machine": ", ".join(machine.get("gpus") or [machine.get("cpu", "")]),
    }
    for name, value in told.items():
        if value not in (None, "", [], {}):
            yield f"| {name} | {value} |"


def _at(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
