"""Gradients, a function an operator: the vector-Jacobian product is its docstring, and its file that of its family."""
