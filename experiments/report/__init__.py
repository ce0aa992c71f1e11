"""What a run leaves for a reader: figures and one self-contained page."""
