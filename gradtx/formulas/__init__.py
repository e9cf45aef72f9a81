"""The optimizers, each a formula of a few lines over the atoms, grouped by family."""
