"""Side-by-side timings; every row also checks that the answers agree. Run one with `python -m benchmarks.NAME`."""
