"""The studies that `experiments.main` runs, each with a function `run`."""
