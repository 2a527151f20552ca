"""Which weights of a run are exported: those at its end, or those of one of the checkpoints that it kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ktr.config.resumption import PARTIAL, REMOVED, checkpoints, own_checkpoint_folder, step_of
from ktr.errors import MissingData
from ktr.policy.shards import SHARDS
from ktr.record.step_table import read_columns

FINAL = "policy"
FIRST = "val/greedy/accuracy"  # by which the best checkpoint is chosen, where answers were greedy


@dataclass(frozen=True)
class Weights:
    """A folder that ``Policy.save`` wrote, a whole model or adapters alone, or ranks in parts.

    ``step`` is the number of updates after which it did: None at the end of the run, and where its name doesn't say.
    """

    folder: Path
    step: int | None = None
    is_final: bool = False

    @property
    def is_whole(self) -> bool:
        return (self.folder / "config.json").is_file()


def choose_weights(run_dir: Path, config: Mapping[str, Any], checkpoint: str | None = None) -> Weights:
    """The weights at the end of a run, or those of ``checkpoint``: last, best, a number of updates or a folder.

    The best is the one of those that were kept whose held-out accuracy is highest. Raises ``MissingData`` where the run
    has no such weights, with those that it has.
    """
    folder = own_checkpoint_folder(config, run_dir)
    kept = {step_of(path): path for path in checkpoints(folder)}
    if checkpoint is None:
        final = Weights(run_dir / FINAL, is_final=True)
        if final.is_whole:
            return final
        last = f"; its last checkpoint is that of update {max(kept)}: --checkpoint last" if kept else ""
        raise MissingData(f"{run_dir}: the run has not finished, and has no policy yet{last}")
    if _is_folder_of_weights(Path(checkpoint)):
        place = Path(checkpoint).resolve()
        if place.suffix in (PARTIAL, REMOVED):
            raise MissingData(
                f"--checkpoint {checkpoint}: it was not written to its end, or is being removed; name a whole one, or "
                "last"
            )
        return Weights(Path(checkpoint), step_of(place) if place in checkpoints(place.parent) else None)
    if checkpoint == "best" and kept:
        step = _best(run_dir, kept)
    else:
        step = max(kept, default=None) if checkpoint == "last" else int(checkpoint) if checkpoint.isdecimal() else None
    if step not in kept:
        there = ", ".join(map(str, sorted(kept))) or "none"
        raise MissingData(
            f"--checkpoint {checkpoint}: {folder} has those of updates {there}; name one of them, last, best, or the "
            "folder of one"
        )
    return Weights(kept[step], step)


def _is_folder_of_weights(folder: Path) -> bool:
    weights = ("config.json", "adapter_config.json", SHARDS)
    return any((folder / name).exists() for name in weights)


def _best(run_dir: Path, kept: Mapping[int, Path]) -> int:
    accuracies = {name: found for name, found in read_columns(run_dir / "metrics.csv").items() if _is_held_out(name)}
    steps, values = accuracies.get(FIRST) or next(iter(accuracies.values()), ([], []))
    measured = {step: value for step, value in zip(steps, values, strict=True) if step in kept}
    if not measured:
        raise MissingData(
            f"--checkpoint best: {run_dir / 'metrics.csv'} has no held-out accuracy of updates "
            f"{', '.join(map(str, sorted(kept)))}, whose checkpoints were kept; name one of them, or last"
        )
    return max(measured, key=lambda step: (measured[step], step))


def _is_held_out(name: str) -> bool:
    return fnmatchcase(name, "val/*/accuracy")
