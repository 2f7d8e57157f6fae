"""Arithmetic that everything rests on: decompositions, spectra, Hessians, regularizers, losses, convergence."""
