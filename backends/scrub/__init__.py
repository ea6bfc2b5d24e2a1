"""Scrubbing: looking at everything that is kept, and telling what does not verify.

``rows`` judges the catalog of a share by itself, ``reading`` reads segments and contents, ``repair``
does what may be done without deleting anything; ``scrub`` is what the layers above call.
"""
