"""The benchmarks: `python -m bench` prints one table, each row beside plain git doing the same."""
