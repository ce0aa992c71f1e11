"""Real images that come with installed packages: no download, no network."""
