"""Fast paths against their slow twins."""

import ktr.policy  # noqa: F401  (makes torchvision importable on a CPU-only torch, before peft and transformers want it)
from tests.small_run import runs_folder, small_run, start_training  # noqa: F401
