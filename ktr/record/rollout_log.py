"""rollouts.jsonl: what the policy answered, what it earned, and which tokens the loss weighed."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ktr.algorithm.scored_batch import ScoredBatch
from ktr.record.token_records import DecodeTokens, Record, append_records, drop_records_after, token_records


class RolloutLog(Callback):
    """Appends the first ``max_completions`` completions of every ``every_n_steps``-th step, as ``token_records``.

    Reads from the training step's outputs ``experiences``, all of its groups, and ``learned``, the scores and weights
    of those that were learned from; and token strings from the module's ``decode_tokens(ids) -> list[str]``. A step
    without rollouts (SFT) leaves nothing. ``step`` counts optimizer updates, so the first step's is 1. In a distributed
    run the file holds the questions of rank 0. A resumed run first drops the lines past its step.
    """

    def __init__(self, path: str | Path, every_n_steps: int = 1, max_completions: int = 16) -> None:
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self.max_completions = max_completions

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        drop_records_after(self.path, trainer.global_step)

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if "experiences" not in outputs or trainer.global_step % self.every_n_steps:
            return
        learned: ScoredBatch = outputs["learned"]
        learned_at = {id(experience): index for index, experience in enumerate(learned.experiences)}
        decode_tokens = cast(DecodeTokens, pl_module.decode_tokens)
        records: list[Record] = []
        for experience in outputs["experiences"]:
            if len(records) >= self.max_completions:
                break
            index = learned_at.get(id(experience), -1)
            token_weights, scores = learned.weights.get(index), learned.factual.get(index)
            records += token_records(experience, token_weights, scores, decode_tokens, trainer.global_step)
        append_records(self.path, records[: self.max_completions])
