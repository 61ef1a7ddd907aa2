"""The datastore: passage keys in memory and on disk, and their search.

Internal, except ``KeyCache`` and ``KeyStore``, which ``nest_engine`` exports.
"""
