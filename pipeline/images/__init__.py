"""From what users have to prepared arrays: sources, decoding, splits."""
