"""``python -m ktr.study``: compose → check → instantiate → rollouts → gradients of parts → table, report.

By itself the shipped cold start on the embedded world; ``model.path=`` another policy.
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ktr.config.as_trained import ask_as_trained
from ktr.config.command_line import launch
from ktr.config.search_path import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="study")
def study(config: DictConfig) -> None:
    ask_as_trained(config, HydraConfig.get().overrides.task)
    OmegaConf.resolve(config)
    from ktr.study.run import run_study  # heavy: only once the config is known to be right

    table, folder = run_study(config)
    sys.stdout.write(f"{table}\n{folder}\n")


def main() -> None:
    launch(study, "study")


if __name__ == "__main__":
    main()
