"""Rollouts by vLLM, in the trainer's process or as servers. Only what is in here may import vLLM."""
