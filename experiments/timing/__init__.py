"""Parts of the benchmarks: layers, peers, measurements, targets, tables."""
