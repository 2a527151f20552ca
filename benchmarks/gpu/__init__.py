"""What a step takes on a GPU at the sizes that are trained there."""
