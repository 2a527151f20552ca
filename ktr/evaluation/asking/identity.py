"""What makes a result that result: two that differ in it are not one column of a table."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ktr.errors import ConfigError
from ktr.evaluation.asking.fingerprint import fingerprint
from ktr.evaluation.benchmarks.check import Checked
from ktr.evaluation.benchmarks.item import Item
from ktr.record.json_file import read_object, write_object

ELSEWHERE = ("annotations", "media_root", "how_to_get")  # where the files lie changes nothing
# Nor does how fast a policy is asked, or by which road.
OF_AN_ENGINE = ("_target_", "lora")
NOT_OF_VIDEO = ("decode_timeout_s", "shuffle_granularity")
NOT_OF_A_MODEL = ("path", "adapter", "freeze", "gradient_checkpointing")
NOT_OF_AN_ENDPOINT = (
    "base_url", "key_variable", "max_concurrency", "requests_per_minute", "retries", "time_limit_s", "spending_limit",
    "prices", "num_decoders", "n_per_request", "template", "video",  # the last two are told by themselves
)  # fmt: skip


def identity_of(config: DictConfig, checked: Checked, rule: str) -> dict[str, Any]:
    """The benchmark and its items, the rule, prompt, frames and pixels, decoding, seed, model, engine and versions."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if config.endpoint is None:
        packages = ("torch", "transformers", *(["vllm"] if ".vllm." in config.rollout._target_ else []))
        folders = [Path(plain["model"][key]) for key in ("path", "adapter") if plain["model"].get(key)]
        asked = {
            "model": _without(plain["model"], NOT_OF_A_MODEL) | {"weights": fingerprint(folders)},
            "engine": {key: plain["rollout"][key] for key in OF_AN_ENGINE if key in plain["rollout"]},
            "versions": {package: _version(package) for package in packages},
        }
    else:
        asked = {"endpoint": _without(plain["endpoint"], NOT_OF_AN_ENDPOINT)}
    return {
        "benchmark": _benchmark(checked),
        "rule": rule,
        "prompt": plain["prompt"],
        "video": _without(plain["video"], NOT_OF_VIDEO),
        "decoding": plain["decoding"],
        "seed": config.seed,
        **asked,
    }


def _benchmark(checked: Checked) -> dict[str, Any]:
    """The benchmark's name and options, and a hash of all questions with their options and answers."""
    benchmark, items, digest = checked.benchmark, checked.loaded.items, hashlib.blake2b(digest_size=8)
    for item in items:
        asked = item.asked
        part = [item.id, item.subtask, asked.question, asked.options, asked.answer, item.start, item.end]
        digest.update(json.dumps(part).encode())
    options = {field.name: getattr(benchmark, field.name) for field in fields(benchmark) if field.name not in ELSEWHERE}
    plain = {
        name: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for name, value in options.items()
    }
    name = benchmark.name
    return {"name": name, **plain, "num_items": len(items), "hash": digest.hexdigest()}


def _without(node: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in keys}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def hash_of(value: Any) -> str:
    """A short hash of plain values."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make a folder that of this identity. Raises ``ConfigError`` where it holds items of another, and says how."""
    path = folder / "identity.json"
    given = json.loads(json.dumps(identity))
    there = read_object(path)
    if there is not None and (folder / "items.jsonl").exists() and (differing := list(differences(there, given))):
        raise ConfigError(
            f"{folder} holds items that were asked otherwise: {'; '.join(differing)}. Ask as it was, or give name=… "
            "for a folder of its own"
        )
    write_object(path, given)


def refuse_other_rows(folder: Path, items: Iterable[Item], lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ``ConfigError`` where a line is about another row than its item, in what the hash does not hold.

    A file may lie elsewhere, or have another ending.
    """
    for item in items:
        if (line := lines.get(item.id)) is None:
            continue
        was = {key: line[key] for key in ("problem_type", "written")} | {"video": PurePosixPath(line["video"]).stem}
        now = {"problem_type": item.asked.problem_type, "written": item.asked.written}
        if differing := list(differences(was, now | {"video": PurePosixPath(item.video).stem})):
            raise ConfigError(
                f"{folder} holds item {item.id} of a row that has changed since: {'; '.join(differing)}. Give name=… "
                "for a folder of its own"
            )


def differences(first: Any, second: Any, at: str = "") -> Iterator[str]:
    """What differs between two identities, such as ``video.num_frames: 16 and 32``."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in dict.fromkeys([*first, *second]):
            yield from differences(first.get(key), second.get(key), f"{at}.{key}" if at else key)
    elif first != second:
        yield f"{at}: {_short(first)} and {_short(second)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
