"""What a user's file says: its parameters, their roles, its inputs; the file itself is read once and never changed.

In: a file, and what a recipe says of its inputs.  Out: a :class:`~dsd_ort.model.source.Source` and what it stores.
Nothing that makes training graphs (``graph/``) or runs them is imported here.
"""
