"""The proof that a model trains: its gradients against finite differences of plain inference, before anyone trains it.

signature (what the inputs say) ─ made_up (input that runs) ─ subject (the graphs) ─ prove (the checks) ─ report

``reference`` computes the loss without differentiating anything, ``slopes`` and ``gradients`` compare, ``exported``
looks at the file, and ``child`` does all of it in a process of its own, because native code can end the one that it
runs in.

In: a model, and a batch of data if there is one.  Out: a :class:`Report`.  Nothing is written but temporary files, and
no verb (``api/``) is imported here.
"""

from dsd_ort.proof.report import Report, Request

__all__ = ["Report", "Request"]
