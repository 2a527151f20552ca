"""``python -m ktr.plan``: whether a run fits its GPUs and how long it takes, by arithmetic alone."""
