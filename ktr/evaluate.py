"""``python -m ktr.evaluate model.path=…``: compose → check → instantiate → run."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ktr.config.as_trained import ask_as_trained
from ktr.config.command_line import CONF, launch


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def evaluate(config: DictConfig) -> None:
    ask_as_trained(config, HydraConfig.get().overrides.task)
    OmegaConf.resolve(config)
    from ktr.evaluation.run import run_evaluation  # heavy: only once the config is known to be right

    sys.stdout.write(f"{run_evaluation(config)}\n")


if __name__ == "__main__":
    launch(evaluate, "evaluate")
