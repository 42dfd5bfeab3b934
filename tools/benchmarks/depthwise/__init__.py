"""What a library of compiled kernels would give, on one of them: both gradients of a depthwise convolution.

    .venv-oracle/bin/python -m tools.benchmarks.depthwise --steps --json docs/bench_depthwise.json

``kernels.c`` is plain C with the compiler's vectors.  The system's ``cc`` makes of it a library for the processor at
hand, in a temporary folder.  It is called by ctypes on the same arrays as the other sides, and not as an operator of
ONNX Runtime's: what a session adds to a node is left out.  Beside it are ONNX Runtime's ConvGrad, in the form that a
session of ours gives it, and PyTorch's convolution_backward.  The shapes are those of MobileNet-v2, EfficientNet-B0 and
ConvNeXt-tiny at 224².  ``GFLOPS`` counts two operations for each product, ``GB/s`` dY, X and dX once each, both of C.

With ``--steps`` a whole step of each network is measured too, and ``step_with_c`` is the share of it that is left with
C's gradients in the place of ours.  None of it is part of the package.
"""
