"""``python -m ktr.attribute model.path=…``: compose → check → instantiate → run.

With ``media=clip.mp4 question="…"``, or with ``rows=questions.json``, it is about videos of one's own.
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ktr.config.as_trained import ask_as_trained
from ktr.config.command_line import launch
from ktr.config.free_text import literal
from ktr.config.search_path import CONF

OWN = ("media", "question", "options", "rows", "media_root", "format")
TEXTS = ("media", "question", "rows", "media_root", "completion", "compare", "output")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="attribute")
def attribute(config: DictConfig) -> None:
    ask_as_trained(config, HydraConfig.get().overrides.task)
    OmegaConf.resolve(config)
    from ktr.evaluation.attribute import run_attribution  # heavy: only once the config is known to be right

    for path in run_attribution(config):
        sys.stdout.write(f"{path}\n")


def main() -> None:
    arguments = literal(sys.argv[1:], TEXTS, lists=("media",))
    if any(argument.partition("=")[0] in OWN for argument in arguments):
        arguments = ["--config-name=attribute_own", *arguments]
    sys.argv[1:] = arguments
    launch(attribute, "attribute")


if __name__ == "__main__":
    main()
