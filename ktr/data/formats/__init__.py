"""Published data sets that are not in the Video-R1 format: a file each, with the function that ``format`` names."""
