"""Lightning modules and what their steps are made of."""
