"""A step of ours beside a step of other trainers. Their environment lacks ktr: imports in here are relative."""
