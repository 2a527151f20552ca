"""``python -m ktr.study``: which tokens carry the expected gradient of a fixed policy, and which its noise."""
