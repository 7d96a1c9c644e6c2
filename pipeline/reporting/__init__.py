"""The table, the figures, the report, and the review of a change."""
