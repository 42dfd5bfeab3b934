"""A file of quantised numbers → the float model that it stands for, which trains.

A quantised number q stands for x = scale · (q - zero).  So a stored weight becomes scale · (q - zero), in floating
point, and each operator on quantised numbers the one on what they stand for (:mod:`.table`).  What rounding took is
gone; what quantising cut off inside of the model stays cut off, by a Clip where a value may be outside: a ReLU in front
of a quantised value is left out of such files, where their range begins at 0, and so is a Clip.

In: a path.  Out: a model in memory, and what became of its nodes.
"""

from dsd_ort.graph.dequantize.walk import Dequantized, dequantized

__all__ = ["Dequantized", "dequantized"]
