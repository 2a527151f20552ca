"""rollouts.jsonl: what the policy answered, what it earned, and which tokens the loss weighed."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ktr.record.rhythm import Rhythm
from ktr.record.step_output import step_output
from ktr.record.token_records import Record, append_records, drop_records_after, token_records


class RolloutLog(Callback):
    """Appends the first ``max_completions`` completions of a batch, as ``token_records``; when, says ``Rhythm``.

    Reads the step's ``StepOutput``, and token strings from the module's policy. A step without rollouts (SFT) leaves
    nothing. ``step`` counts optimizer updates, so the first step's is 1; of several updates of a batch it is the last.
    In a distributed run the file holds the questions of rank 0. A resumed run first drops the lines past its step.
    """

    def __init__(self, path: str | Path, every_n_steps: int = 1, max_completions: int = 16) -> None:
        self.path = Path(path)
        self._rhythm = Rhythm(every_n_steps)
        self.max_completions = max_completions
        self.logged: list[Record] = []  # those of the last step that this process logged

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @rank_zero_only
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        drop_records_after(self.path, checkpoint["global_step"])  # also where no step is left to take

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._rhythm.start_batch(trainer.global_step)

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        output = step_output(outputs)
        if output is None or not self._rhythm.is_due(trainer.global_step):
            return
        learned = {id(scored.experience): scored for scored in output.to_learn}
        decode_tokens = cast(Any, pl_module).policy.decode_tokens
        records: list[Record] = []
        for experience in output.experiences:
            if len(records) >= self.max_completions:
                break
            scored = learned.get(id(experience))
            first, norms_GT = (None, None) if scored is None else (scored.first, scored.gradient_norms_GT)
            weights, scores = (None, None) if first is None else (first.weights, first.factual)
            records += token_records(
                experience, weights, scores, decode_tokens, trainer.global_step, gradient_norms_GT=norms_GT
            )
        self.logged = records[: self.max_completions]
        append_records(self.path, self.logged)
