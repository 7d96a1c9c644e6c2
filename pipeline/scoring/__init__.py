"""Numbers about predictions, and how sure they are."""
