"""The parts of bench_gpu.py: what is measured, what is expected, and the page of results."""
