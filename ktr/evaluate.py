"""``python -m ktr.evaluate model.path=…``: compose → check → instantiate → run.

``benchmark=mmvu dry_run=true`` only looks whether a benchmark's rows and videos are there. ``rescore=<records>`` scores
replies that are on disk, without a model.
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ktr.config.as_trained import ask_as_trained
from ktr.config.command_line import CONF, launch
from ktr.config.free_text import literal

TEXTS = ("rescore", "against", "output", "benchmark.annotations", "benchmark.media_root")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def evaluate(config: DictConfig) -> None:
    sys.stdout.write(f"{_done(config)}\n")


def _done(config: DictConfig) -> object:
    """What is written: a table, or where the results are. Imports are late, for they load torch where it is needed."""
    if "rescore" in config:
        from ktr.evaluation.rescore import rescore

        return rescore(OmegaConf.to_container(config, resolve=True))  # pyright: ignore[reportArgumentType] # a mapping
    if config.dry_run:
        from ktr.evaluation.benchmarks.check import check

        return check(instantiate(config.benchmark)).table()
    ask_as_trained(config, HydraConfig.get().overrides.task)
    OmegaConf.resolve(config)
    if config.benchmark is not None:
        from ktr.evaluation.asking.run import ask_benchmark

        return ask_benchmark(config)
    from ktr.evaluation.run import run_evaluation

    return run_evaluation(config)


def main() -> None:
    arguments = literal(sys.argv[1:], TEXTS)
    if any(argument.partition("=")[0] == "rescore" for argument in arguments):
        arguments = ["--config-name=rescore", *arguments]
    elif "dry_run=true" in arguments:
        arguments = ["--config-name=dry_run", *arguments]
    sys.argv[1:] = arguments
    launch(evaluate, "evaluate")


if __name__ == "__main__":
    main()
