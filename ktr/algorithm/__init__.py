"""The mathematics of the policy update: advantages, token weights, reductions and the clipped surrogate."""
