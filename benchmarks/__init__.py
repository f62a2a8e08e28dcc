"""How long things take; `python -m benchmarks` runs all and prints tables."""
