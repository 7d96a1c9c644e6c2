"""The ground that every room stands on: errors, files, paths, randomness, the machine, the prepared data."""
