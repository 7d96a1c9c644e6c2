"""How fast the engine is, against what bounds it: `python -m benchmarks.NAME` measures one table."""
