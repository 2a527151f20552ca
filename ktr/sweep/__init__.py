"""Sweeps: each job in a process of its own, none twice, one line that says how far it is."""
