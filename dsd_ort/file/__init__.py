"""An ONNX file as bytes: where tensors stand in it, how numbers are written, copies with some exchanged.

In: the path of a file.  Out: places, arrays, bytes.  No graph is rewritten here, and no ONNX Runtime is called; of the
package only errors are imported.
"""
