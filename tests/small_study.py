"""A study of the shipped cold start, as small as an interval allows."""

from pathlib import Path

from omegaconf import OmegaConf

from ktr.config.composing import compose
from ktr.study.run import run_study

SMALL = [
    "num_groups=8", "data.questions_per_step=1", "data.train.num_questions=8", "data.validation.num_questions=1",
    "data.num_decoders=0", "sampling.num_completions=4", "sampling.max_tokens=48", "ratios=[0.5]",
]  # fmt: skip


def run(folder: Path, *overrides: str) -> tuple[str, Path]:
    config = compose("study", [*SMALL, f"paths.runs={folder}", f"paths.cache={folder}/cache", *overrides])
    OmegaConf.resolve(config)
    return run_study(config)
