"""Observers of a run. Removing all of them changes no loss."""

import ktr.policy  # noqa: F401  # before lightning, see ktr.policy.torchvision_ops
