"""Operators with a backward of their own that are too large for a rule's file: recurrent layers, CTC.

In: nothing but numbers that fix a layer's form.  Out: a :class:`~dsd_ort.rewrite.autograd.Operator`, two ONNX
functions.  Nothing of ``graph/`` is imported here.
"""
