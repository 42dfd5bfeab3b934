"""Trained weights into a copy of the untouched file, and the proof that nothing else differs.

In: a source and arrays; or two files.  Out: a file; a verdict.  Neither the training graphs (``graph/``) nor what runs
them is imported here: what ships knows nothing of how it was trained.
"""
