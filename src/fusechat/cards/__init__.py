"""Cards: what a model or a data set is made of, as the README.md that the hub shows."""
