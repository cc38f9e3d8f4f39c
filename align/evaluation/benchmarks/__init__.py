"""The benchmarks: each makes problems, and programs from answers."""
