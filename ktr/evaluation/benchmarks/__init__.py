"""The published benchmarks, a file each: from their rows, official or converted, to items of one form."""
