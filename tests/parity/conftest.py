"""Fast paths against their slow twins."""

from tests.small_run import runs_folder, small_run, start_training  # noqa: F401
