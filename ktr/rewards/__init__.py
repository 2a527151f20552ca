"""Rewards of a group's completions, by the rules of Video-R1."""
