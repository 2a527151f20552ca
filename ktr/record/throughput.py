"""How fast a run goes: questions and tokens per second of each step, and of the whole run."""

from time import perf_counter, process_time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ktr.record.step_output import step_output


class Throughput(Callback):
    """Logs ``train/questions_per_second``, ``train/tokens_per_second`` and ``train/step_seconds``.

    Tokens are completion tokens. A step's time runs from its start to its end: rollouts, scoring, backward and update,
    without validation and checkpoints; of several updates of a batch it is the mean. ``train/cpu_seconds`` is its
    processor time, of all threads of this process: on a shared machine it says more than the clock. Each part of a
    batch with rollouts is logged as ``time/{part}_seconds``, and ``rollout`` as ``rollout/tokens_per_second`` too;
    ``time/data_seconds`` is how long the batch had to be waited for.
    Counts are of one process. ``questions_per_second`` and ``tokens_per_second`` are means over the steps so far.
    """

    def __init__(self) -> None:
        self.num_questions = 0
        self.num_tokens = 0
        self.seconds = 0.0
        self._started = self._started_cpu = 0.0
        self._first_step = 0
        self._waited = 0.0

    @property
    def questions_per_second(self) -> float:
        return self.num_questions / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._started, self._started_cpu = perf_counter(), process_time()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        seconds, updates = perf_counter() - self._started, max(1, trainer.global_step - self._first_step)
        output = step_output(outputs)
        questions, tokens = (len(batch), 0) if output is None else (output.num_questions, output.num_tokens)
        self.num_questions += questions
        self.num_tokens += tokens
        self.seconds += seconds
        metrics = {
            "train/questions_per_second": questions / seconds,
            "train/tokens_per_second": tokens / seconds,
            "train/step_seconds": seconds / updates,
            "train/cpu_seconds": (process_time() - self._started_cpu) / updates,
        }
        waited = getattr(trainer.train_dataloader, "seconds_waited", 0.0)
        metrics["time/data_seconds"], self._waited = waited - self._waited, waited
        parts = {} if output is None else output.seconds
        metrics |= {f"time/{part}_seconds": value for part, value in parts.items()}
        if parts.get("rollout"):
            metrics["rollout/tokens_per_second"] = tokens / parts["rollout"]
        pl_module.log_dict(metrics, on_step=True, on_epoch=False)
