"""What the signals select in each step: fractions, overlaps, and the mean score of each signal."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ktr.attribution.overlap import selection_statistics
from ktr.record.log_once import log_once
from ktr.record.step_output import step_output
from ktr.types import Experience, TokenWeights


def token_statistics(experiences: Sequence[Experience], token_weights: Sequence[TokenWeights]) -> dict[str, float]:
    """Metrics over all completion tokens of a step; empty where no group has a signal.

    ``attribution/{signal}/selected_fraction``, ``attribution/union_fraction``, ``attribution/overlap/{a}_{b}`` (see
    ``ktr.attribution.overlap``) and ``attribution/{signal}/score``, the mean score. A group without a signal (an image
    has no temporal one) counts as selecting nothing for it.
    """
    signals = list(dict.fromkeys(name for weights in token_weights for name in weights.selections))
    if not signals:
        return {}
    masks_GT = [experience.group.completion_mask_GT for experience in experiences]
    joined_mask_1N = torch.cat([mask_GT.flatten() for mask_GT in masks_GT])[None]
    joined_selections = {}
    metrics = {}
    for signal in signals:
        pairs = list(zip(masks_GT, token_weights, strict=True))
        selections = [weights.selections.get(signal, torch.zeros_like(mask_GT)) for mask_GT, weights in pairs]
        joined_selections[signal] = torch.cat([selected_GT.cpu().flatten() for selected_GT in selections])[None]
        scores = [weights.scores[signal].cpu()[mask_GT] for mask_GT, weights in pairs if signal in weights.scores]
        if scores:
            metrics[f"attribution/{signal}/score"] = torch.cat(scores).mean().item()
    statistics = selection_statistics(joined_selections, joined_mask_1N)
    return metrics | {name: value.item() for name, value in statistics.items()}


class TokenStatistics(Callback):
    """Logs ``token_statistics`` of the groups that a step learned from; of rank 0's in a distributed run.

    Groups whose tokens were not weighed (equal rewards) are left out; a step without any logs nothing.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (output := step_output(outputs)) is None:
            return
        weighed = [(s.experience, s.first.weights) for s in output.to_learn if s.first and s.first.weights.selections]
        metrics = token_statistics([experience for experience, _ in weighed], [weights for _, weights in weighed])
        if metrics:
            log_once(trainer, metrics, trainer.global_step)
