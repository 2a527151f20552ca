"""``python -m ktr.train``: compose → check → instantiate → run."""

import os
import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from ktr.config import CONF, launch
from ktr.naming import FOLDER_OF_RANK_0


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def train(config: DictConfig) -> None:
    OmegaConf.resolve(config)
    os.environ[FOLDER_OF_RANK_0] = config.paths.folder
    from ktr.training.run import run_training  # heavy imports only once the command line is known to be right

    run_dir = run_training(config)
    sys.stdout.write(f"{run_dir / 'report.html'}\n")


if __name__ == "__main__":
    launch(train, "train")
