"""What every rewrite of a graph stands on: what operators do, how nodes are built, what depends on what.

In: a graph of onnx-ir.  Out: the same one, changed, or facts about it.  Knows nothing of files, recipes, training or
ONNX Runtime: of the package only errors are imported.
"""
