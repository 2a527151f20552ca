"""Rollout engines: a group of completions for each question, with log-probs and the version of the weights."""
