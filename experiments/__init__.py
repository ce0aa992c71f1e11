"""What tconv is for, shown by training: run from a checkout, not installed."""
