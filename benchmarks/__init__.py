"""One runnable file per claim of the README: `python -m benchmarks.NAME`; dated results lie in `results/`."""
