"""What a row of a leaderboard is called: the model by the end of its path, its frames, and what else tells it apart."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ktr.config.settings import settings
from ktr.evaluation.asking.identity import hash_of
from ktr.evaluation.reports.folder import EvaluationFolder

OF_A_RUN = "policy"  # the folder of a run's policy, which is named after the run


def label_rows(results: Sequence[EvaluationFolder], column_of: Mapping[Path, str]) -> dict[str, list[EvaluationFolder]]:
    """The results by row: those of one model together, but never two of one column in the same row.

    ``column_of`` has the column of each result by its folder.
    """
    by_model: dict[str, list[EvaluationFolder]] = {}
    for result in results:
        by_model.setdefault(hash_of(result.of_model), []).append(result)
    rows: dict[str, list[EvaluationFolder]] = {}
    for name, of_model in zip(_names([of_model[0] for of_model in by_model.values()]), by_model.values(), strict=True):
        for details, group in _apart(of_model, column_of).items():
            rows[f"{name} ({', '.join(details)})"] = group
    return rows


def _apart(
    results: Sequence[EvaluationFolder], column_of: Mapping[Path, str]
) -> dict[tuple[str, ...], list[EvaluationFolder]]:
    """One model's results by what is told of them beside its name: as little as keeps those of a column apart."""
    told = [(_frames(result), _decoding(result), result.path.name, str(result.path)) for result in results]
    for length in range(len(told[0])):
        groups = _groups(results, [details[:length] for details in told])
        if all(max(Counter(column_of[result.path] for result in of).values()) == 1 for of in groups.values()):
            return {details or (" and ".join(dict.fromkeys(map(_frames, of))),): of for details, of in groups.items()}
    return _groups(results, told)


def _groups(
    results: Sequence[EvaluationFolder], told: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], list[EvaluationFolder]]:
    groups: dict[tuple[str, ...], list[EvaluationFolder]] = {}
    for result, details in zip(results, told, strict=True):
        groups.setdefault(tuple(filter(None, details)), []).append(result)
    return groups


def _frames(result: EvaluationFolder) -> str:
    decoding = result.identity["decoding"]
    if "max_frames" in decoding:
        return f"{decoding['first_frames']} to {decoding['max_frames']} frames"
    return f"{decoding['num_frames']} frames"


def _decoding(result: EvaluationFolder) -> str:
    num_completions = result.identity["decoding"]["sampling"]["num_completions"]
    return f"vote of {num_completions}" if num_completions > 1 else ""


def _names(models: Sequence[EvaluationFolder]) -> list[str]:
    """A name for each model, all different: of those at one place with what tells them apart, such as their weights."""
    places = [json.dumps(model.named) for model in models]
    longest = max(len(Path(value).parts) for model in models for value in model.named.values())
    names = []
    for model, place in zip(models, places, strict=True):
        others = [other.named for other, at in zip(models, places, strict=True) if at != place]
        lengths = range(1, longest + 1)
        length = next((n for n in lengths if _end(model.named, n) not in [_end(other, n) for other in others]), longest)
        alike = [settings(other.of_model) for other, at in zip(models, places, strict=True) if at == place]
        names.append(f"{_end(model.named, length)}{_telling(settings(model.of_model), alike)}")
    return names


def _end(named: Mapping[str, str], length: int) -> str:
    paths = [Path(value) for value in named.values()]
    return " + ".join("/".join((path.parent if path.name == OF_A_RUN else path).parts[-length:]) for path in paths)


def _telling(own: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    keys = [key for key in own if any(other.get(key) != own[key] for other in alike)]
    return "".join(f", {key.rpartition('.')[2]} {own[key]}" for key in keys)
