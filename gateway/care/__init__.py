"""Care of what is stored: clearing away, and scrubbing. For the janitor and for the command line.

``clearing`` and ``scrubbing`` do the work and record it, ``report`` is what is told of it, ``turn``
keeps two processes from doing it at once, ``rounds`` spreads it over a running gateway's days.
"""
