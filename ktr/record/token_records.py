"""Completions as JSON lines: what rollouts.jsonl and attribution.jsonl hold, one completion a line."""

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ktr.errors import MissingData, naming
from ktr.types import WHOLE, Clip, Experience, MediaFile, TokenScores, TokenWeights, VideoQuestion

Record = dict[str, Any]
DecodeTokens = Callable[[Sequence[int]], list[str]]

DIGITS, EXACT = 5, 9  # significant ones; nine tell any two float32 apart
ROLES = ("appearance", "order_motion", "decision", "derived", "nothing")


def token_records(
    experience: Experience,
    token_weights: TokenWeights | None,
    scores: TokenScores | None,
    decode_tokens: DecodeTokens,
    step: int,
    roles: Sequence[Sequence[str]] | None = None,
    gradient_norms_GT: Float[Tensor, "G T"] | None = None,
    views: Mapping[str, TokenScores] | None = None,
    ranks_GT: Int[Tensor, "G T"] | None = None,
    score_digits: int = DIGITS,
) -> list[Record]:
    """One record for each of the G completions of a group.

    ``token_weights`` and ``scores`` (of the factual view) are None for a group that the step had no need to score.
    ``decode_tokens`` maps token ids to their strings, one each. ``roles`` is the ground truth where it is known: for
    each completion one of ``ROLES`` for each of its tokens. ``views`` are scores under other views by the view's name,
    of which the log-probs are kept, and ``ranks_GT`` the places of the tokens in the vocabulary; ``gradient_norms_GT``
    the norms of ∂ log p of tokens where they were measured. ``selected`` lists positions, all other lists run over the
    completion's tokens; numbers keep five significant digits, and scores ``score_digits``: with ``EXACT`` the selection
    can be made anew from a record.
    """
    group, question = experience.group, experience.group.question
    records = []
    for index, completion in enumerate(group.completions):
        ids = completion.token_ids_T.tolist()
        row = (index, slice(0, len(ids)))
        record: Record = {
            "step": step,
            "question": question.id,
            "completion": index,
            "category": question.category,
            "problem_type": question.problem_type,
            "problem": question.problem,
            "options": list(question.options),
            "answer": question.answer,
            **media_entries(question),
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "weights_version": completion.weights_version,
            "reward": _compact(experience.rewards_G[index].item()),
            "rewards": {name: _compact(part[index].item()) for name, part in experience.reward_parts.items()},
            "advantage": _compact(experience.advantages_G[index].item()),
            "tokens": decode_tokens(ids),
            "engine_logps": _compact_list(completion.logps_T),
            "scores": {},
            "selected": {},
        }
        if scores is not None:
            record["logps"] = _compact_list(scores.logps_GT[row])
            if scores.entropies_GT is not None:
                record["entropies"] = _compact_list(scores.entropies_GT[row])
        if views is not None:
            record["view_logps"] = {name: _compact_list(view.logps_GT[row]) for name, view in views.items()}
        if ranks_GT is not None:
            record["ranks"] = ranks_GT[row].tolist()
        if token_weights is not None:
            record["weights"] = _compact_list(token_weights.weights_GT[row])
            record["scores"] = {
                name: _compact_list(score_GT[row], score_digits) for name, score_GT in token_weights.scores.items()
            }
            record["selected"] = {
                name: selected_GT[row].nonzero().flatten().tolist()
                for name, selected_GT in token_weights.selections.items()
            }
        if gradient_norms_GT is not None:
            record["gradient_norms"] = _compact_list(gradient_norms_GT[row])
        if roles is not None:
            record["roles"] = [str(role) for role in roles[index]]
        for name in ("tokens", "roles"):
            if len(record.get(name, ids)) != len(ids):
                raise ValueError(f"question {question.id}: {len(ids)} token ids but {len(record[name])} {name}")
        records.append(record)
    return records


def media_entries(question: VideoQuestion) -> Record:
    """What a record says of the media that its question is about: as in a row, a single one is no list."""
    paths, kinds = [str(file.path) for file in question.media], [file.kind for file in question.media]
    return {"media": paths, "data_type": kinds} if len(paths) > 1 else {"media": paths[0], "data_type": kinds[0]}


def media_of(record: Record) -> tuple[MediaFile, ...]:
    """The media that a record's question is about, from ``media_entries``; of videos the clip from start to end."""
    paths, kinds = record["media"], record["data_type"]
    if isinstance(paths, str):
        paths, kinds = [paths], [kinds]
    start, end = record.get("start"), record.get("end")
    clip = Clip(start or 0.0, math.inf if end is None else end)
    return tuple(
        MediaFile(Path(path), kind, clip if kind == "video" else WHOLE) for path, kind in zip(paths, kinds, strict=True)
    )


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Append one JSON line for each record and hand them to the operating system."""
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)


def read_records(path: Path, newest: int | None = None) -> Iterator[Record]:
    """The records of a file, oldest first; none if there is no file. A torn last line (a killed run's) is left out.

    With ``newest`` only so many of the last lines are read as records. Raises ``MissingData`` at another line that is
    no record.
    """
    if not path.exists():
        return
    with path.open("rb") as file:  # as text a line that is torn within a character could not be read
        lines = enumerate(file, 1)
        for number, line in lines if newest is None else deque(lines, newest):
            if line.endswith(b"\n"):
                yield _record(path, number, line)


def drop_records_after(path: Path, step: int) -> None:
    """Cut off the records of later steps and a torn last line, so that a resumed run appends where it left off."""
    if not path.exists():
        return
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") or _record(path, number, line).get("step", 0) > step:
                break
            end += len(line)
    with path.open("r+b") as file:
        file.truncate(end)


def _record(path: Path, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise MissingData(f"{path}, line {number}: cannot be read ({error}); remove that line") from error
    if not isinstance(record, dict):
        raise MissingData(f"{path}, line {number}: is no record of a completion; remove that line")
    return record


def _compact(value: float, digits: int = DIGITS) -> float | int:
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _compact_list(values_T: Shaped[Tensor, " T"], digits: int = DIGITS) -> list[float | int]:
    return [_compact(value, digits) for value in values_T.tolist()]
