"""A run's policy as a folder of its own: weights merged and in one dtype, the run's pixels, how to ask it, a card.

final policy, or base + adapters of a checkpoint ─► one model, saved aside ─► pixels, ktr.yaml, README.md ─► renamed
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from ktr.config.as_trained import ASKING, NODES
from ktr.config.model_folder import require_model
from ktr.config.resumption import checkpoint_folder, checkpoints, step_of, written_config
from ktr.errors import ConfigError, MissingData
from ktr.export.model_card import model_card
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.record.json_file import read_object

CARD = "README.md"
PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


def export(
    run_dir: Path, output: Path, checkpoint: str | None = None, dtype: str = "auto", results: Sequence[Path] = ()
) -> Path:
    """Write the policy of a run to ``output``; returns it.

    ``checkpoint`` is "last" or a number of updates, in place of the final policy. ``dtype`` "auto" is that of the model
    that the run started from. ``results`` are folders of evaluations that the card tells. The folder is there whole or
    not at all. Raises ``MissingData`` where the run has no such policy, ``MissingModel`` where the model under its
    adapters is gone, and ``ConfigError`` where ``output`` holds something else than an earlier export.
    """
    if not (run_dir / "config.yaml").exists():
        raise MissingData(f"{run_dir}: there is no config.yaml; name a run's folder, such as runs/<run>")
    config = written_config(run_dir)
    if output.exists() and not (output / ASKING).exists() and any(output.iterdir()):
        raise ConfigError(f"--output {output}: it holds other files; name a folder that is empty or not there")
    told = [_result(folder) for folder in results]
    source, step = _source(run_dir, config, checkpoint)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        policy = _policy(source, config)
        wanted = _dtype(dtype, config, policy)
        if wanted == str(policy.dtype).removeprefix("torch."):
            policy.save(partial, merge_adapters=True)
        else:  # adapters are merged before numbers are rounded
            merged = partial / "merged"
            policy.save(merged, merge_adapters=True)
            del policy
            load_policy(merged, dtype=wanted).save(partial)
            shutil.rmtree(merged)
        _set_pixels(partial, config["video"])
        asking = {node: config[node] for node in NODES if node in config}
        (partial / ASKING).write_text(OmegaConf.to_yaml(OmegaConf.create(asking)), encoding="utf-8")
        summary, record = (read_object(run_dir / f"{name}.json") or {} for name in ("summary", "record"))
        card = model_card(run_dir.resolve().name, config, record, summary if checkpoint is None else {}, step, told)
        (partial / CARD).write_text(card, encoding="utf-8")
        shutil.rmtree(output, ignore_errors=True)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def _source(run_dir: Path, config: Mapping[str, Any], checkpoint: str | None) -> tuple[Path, int | None]:
    """The folder of weights, and after how many updates they are; None of the final policy."""
    if checkpoint is None and (run_dir / "policy" / "config.json").exists():
        return run_dir / "policy", None
    folder = run_dir / checkpoint_folder(config).name
    found = {step_of(path): path for path in checkpoints(folder)}
    if checkpoint is None:
        last = f"; its last checkpoint is that of update {max(found)}: --checkpoint last" if found else ""
        raise MissingData(f"{run_dir}: the run has not finished, and has no policy yet{last}")
    step = max(found, default=None) if checkpoint == "last" else int(checkpoint) if checkpoint.isdecimal() else None
    if step not in found:
        there = ", ".join(map(str, sorted(found))) or "none"
        raise MissingData(
            f"--checkpoint {checkpoint}: {folder} has those of updates {there}; name one of them, or last"
        )
    assert step is not None
    return found[step], step


def _policy(source: Path, config: Mapping[str, Any]) -> Policy:
    """The policy whose weights are in a folder: a whole model, or adapters over the model that the run started from."""
    if (source / "config.json").exists():
        return load_policy(source, dtype="auto")
    model = config["model"]
    require_model(Path(model["path"]), "the run's model.path")
    given = {key: model.get(key) for key in ("adapter", "lora") if model.get(key) is not None}
    policy = load_policy(model["path"], dtype=model.get("dtype", "float32"), **given)
    policy.load_trained(source)
    return policy


def _dtype(asked: str, config: Mapping[str, Any], policy: Policy) -> str:
    if asked != "auto":
        return asked
    start = Path(config["model"]["path"]) / "config.json"
    about = json.loads(start.read_text(encoding="utf-8")) if start.is_file() else {}
    named = str(about.get("dtype") or about.get("torch_dtype"))
    return named if isinstance(getattr(torch, named, None), torch.dtype) else str(policy.dtype).removeprefix("torch.")


def _set_pixels(folder: Path, video: Mapping[str, Any]) -> None:
    """Let the folder's processors resize to the bounds that the run was trained with, whatever layout they have."""
    for name in PROCESSORS:
        path = folder / name
        if (content := read_object(path)) is None:
            continue
        parts = [content[key] for key in ("image_processor", "video_processor") if key in content] or [content]
        for part in parts:
            part["size"] = {"shortest_edge": video["min_pixels"], "longest_edge": video["max_pixels"]}
            part.update({key: video[key] for key in ("min_pixels", "max_pixels") if key in part})
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _result(folder: Path) -> dict[str, Any]:
    result = read_object(folder / "results.json")
    if result is None:
        raise MissingData(f"--results {folder}: there is no results.json; name a folder of python -m ktr.evaluate")
    return result
