"""What a run shows: statistics, figures and the report, from the files of its folder alone."""
