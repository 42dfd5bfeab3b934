"""What becomes of a node: one function a node kind, in the file of its family.  :mod:`..table` says which is whose."""
