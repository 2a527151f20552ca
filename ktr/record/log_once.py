"""Metrics that not every step has."""

from collections.abc import Mapping

from lightning.pytorch import Trainer


def log_once(trainer: Trainer, metrics: Mapping[str, float], step: int) -> None:
    """Give ``metrics`` to the loggers as those of ``step``, and of it alone.

    What a module logs stays with Lightning, which writes it again at every later step until there is a new value.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=step)
