"""Rollouts by the policy's own transformers model, in the trainer's process."""
