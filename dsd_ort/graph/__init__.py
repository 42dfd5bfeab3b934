"""From a model to its training graphs: adapt, fold, legalize, loss, differentiate, masks, optimizer; prepare.

In: a source and a recipe.  Out: graphs and their manifest, the Program of a run folder.  Pure functions on graphs: no
training data, no device, and nothing that trains (``run/``) is imported here.
"""
