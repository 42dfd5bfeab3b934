"""Where it helps, measured with the verbs that users have; each command commits its result.

    .venv/bin/python -m tools.evidence.suspects     wrong labels among digits: how many are found, what it gains
    .venv/bin/python -m tools.evidence.cleanlab     … and how that compares with cleanlab, which has to be installed
    .venv/bin/python -m tools.evidence.default_recipe   trained models without a recipe: better or worse?
    .venv/bin/python -m tools.evidence.sparse       ways to a sparse network, and which layers to prune how much

``--json docs/evidence_NAME.json`` writes what is committed.
"""
