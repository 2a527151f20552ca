"""Held-out measures: accuracy with its interval, interventions, attribution of answers."""
