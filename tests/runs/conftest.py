"""Whole sweeps from the command line: a lane of their own, for they prove no parity."""

from tests.small_run import runs_folder, small_run, start_training  # noqa: F401
