"""What the scoring path costs, beside the way that the released trainers go."""

import ktr.policy  # noqa: F401  (makes torchvision importable on a CPU-only torch, before transformers wants it)
