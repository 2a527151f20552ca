"""Training rows that a benchmark has as well: by their media, by the names of these, and by what is asked."""
