"""What runs inside the wall: standard library only, Python 3.9 and newer.

The host sends these sources as one bundle when a slot starts (``sandbox/engines/bundle.py``), so an
image holds nothing but a Python and can't go stale.
"""
