"""A search through every interleaving of a small world, which the real recovery works in.

``world`` is Cinder, the backend and Nova's records as plain values, ``nova`` what users and Nova
do in it, ``calls`` what our own calls do. ``ledger`` is detachd between two attempts, with the real
correlation; ``attempts`` is the real recovery, stopped before each look and each call. ``promises``
says what may never happen, ``search`` goes through all of it, and ``removal`` takes guards, looks
and facts away, to see that the search notices.
"""
