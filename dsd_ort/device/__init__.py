"""A prepared graph as one session runs it: what a device and its ONNX Runtime want done to it when it is opened.

In order: :mod:`.forms` (sizes of one batch, the forms that the device has, standard operators where ONNX Runtime cannot
train), :mod:`.mixed` (16 bits), :mod:`.unroll` (steps of a Scan as nodes).

In: a prepared graph, a device, shapes of a batch.  Out: the same graph, changed in place; nothing of it is written to
the run folder.  Neither ``run/`` nor ``ship/`` is imported here.
"""
