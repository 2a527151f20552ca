"""What a terminal shows while something runs, and what is kept off it."""
