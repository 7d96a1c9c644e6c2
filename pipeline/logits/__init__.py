"""The cache of the teachers' answers, and the targets made of it."""
