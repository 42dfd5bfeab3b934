"""What a run or a comparison has to show, as one page of HTML that needs no network, no script and no other file.

In: folders.  Out: text.  :mod:`~dsd_ort.api.page.layout` knows what a page is made of, the others fill it.  matplotlib
and jinja2, the extra ``report``, are imported where they are used.
"""
