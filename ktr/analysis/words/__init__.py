"""Statistics of the words whose tokens the signals select, from the rollout records of runs."""
