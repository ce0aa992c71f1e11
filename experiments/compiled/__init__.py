"""Programs compiled for absent devices, and what they ask of them."""
