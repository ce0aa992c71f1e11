"""Studies and benchmarks of tconv, to be run from a checkout."""
