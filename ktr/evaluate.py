"""``python -m ktr.evaluate model.path=…``: compose → check → instantiate → run.

``benchmark=mmvu`` asks a benchmark, ``benchmark=mmvu,videomme`` one after the other, ``endpoint=openai`` a served model
in place of the policy; with ``dry_run=true`` it only looks whether rows and videos are there. ``rescore=<records>``
scores replies that are on disk, without a model.
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ktr.config.as_trained import ask_as_trained
from ktr.config.command_line import checked, launch
from ktr.config.free_text import literal
from ktr.config.search_path import CONF

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
    if config.endpoint is None:
        ask_as_trained(config, HydraConfig.get().overrides.task)
    OmegaConf.resolve(config)
    if config.benchmark is not None:
        from ktr.evaluation.benchmark_run import ask_benchmark

        return ask_benchmark(config)
    from ktr.evaluation.run import run_evaluation

    return run_evaluation(config)


def main() -> None:
    """Each benchmark of ``benchmark=a,b`` is a run of its own; all are checked before the first one starts.

    They are no sweep of Hydra's, which knows no key that only a swept file has, such as ``benchmark.limit``.
    """
    given = literal(sys.argv[1:], TEXTS)
    jobs = [_with_config_name(arguments) for arguments in _by_benchmark(given)]
    for arguments in jobs if len(jobs) > 1 else ():
        checked("evaluate", arguments)
    for arguments in jobs:
        sys.argv[1:] = arguments
        launch(evaluate, "evaluate")


def _by_benchmark(arguments: list[str]) -> list[list[str]]:
    place = next((place for place, text in enumerate(arguments) if text.startswith("benchmark=")), None)
    if place is None or "--multirun" in arguments or "-m" in arguments:
        return [arguments]
    names = arguments[place].partition("=")[2].strip("[]").split(",")
    return [[*arguments[:place], f"benchmark={name.strip()}", *arguments[place + 1 :]] for name in names]


def _with_config_name(arguments: list[str]) -> list[str]:
    if any(argument.partition("=")[0] == "rescore" for argument in arguments):
        return ["--config-name=rescore", *arguments]
    return ["--config-name=dry_run", *arguments] if "dry_run=true" in arguments else arguments


if __name__ == "__main__":
    main()
