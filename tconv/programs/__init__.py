"""How `tconv.accelerate` reads and rewrites the programs of other libraries."""
