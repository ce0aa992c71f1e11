"""Images from installed packages, without downloads, and from folders."""
