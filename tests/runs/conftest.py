"""Whole runs and sweeps, and two ranks against one: a lane of their own, for each starts processes."""

from tests.small_run import runs_folder, small_run, start_training  # noqa: F401
