"""A check-up of an installation: every finding says what, which, and what to do.

Looks and asks, and changes nothing. One module for each thing that is looked at.
"""
