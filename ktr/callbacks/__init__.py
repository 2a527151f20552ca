"""Observers of a run. Removing all of them changes no loss."""
