"""``python -m ktr.export``: the policy of a run as a Hugging Face folder, with a card."""
