"""What every run needs: training, resuming, results and the report."""
