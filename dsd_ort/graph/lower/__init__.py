"""Operators of a differentiated graph in the form that the device and its ONNX Runtime compute fastest."""

from dsd_ort.graph.lower.cpu import BLOCKED, Convolution, channel_block, convolution_of, lower

__all__ = ["BLOCKED", "Convolution", "channel_block", "convolution_of", "lower"]
