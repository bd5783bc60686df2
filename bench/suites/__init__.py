"""One module per benchmark: what is measured, in which order, and what must hold for a figure to count."""
