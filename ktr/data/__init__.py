"""Rows, media files and prompts: everything between a dataset on disk and the policy's inputs."""
