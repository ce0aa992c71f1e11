"""Compiles for GPUs and TPUs that are not here, and analyzes the programs."""
