"""W&B workspaces for runs and sweeps."""
