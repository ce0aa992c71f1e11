"""Programs compiled for devices that are not here, and what they ask for."""
