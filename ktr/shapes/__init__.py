"""The embedded world: short videos of moving shapes, questions about them, and a policy small enough for a laptop."""
