"""The console is for the run: what libraries say on every start is kept off it."""

import logging
import warnings

import transformers


def quiet_libraries() -> None:
    """Warnings and errors of Lightning and transformers stay; device lists, tips and loading bars go."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    # The modules switch between train and eval mode themselves, and their validation loader is the data module's.
    warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    # Held-out metrics are of all ranks already; vLLM in the trainer's process makes a process group of one.
    warnings.filterwarnings("ignore", message=r".*sync_dist=True.*")
