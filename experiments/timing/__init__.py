"""What the benchmark is made of: layers, peers, stopwatch, bars, tables."""
