"""From a command line to checked configs, and what a config says of a run: its name, its settings. No heavy import."""
