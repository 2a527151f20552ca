"""Held-out accuracy: how it is measured and with which interval."""
