"""An ensemble as a value: how it is fitted, and how one is chosen."""
