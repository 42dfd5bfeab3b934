"""Executes a Program: the training loop and all that it needs."""
