"""What a run writes down while it runs. Removing every callback changes no loss."""
