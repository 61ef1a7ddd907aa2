"""The datastore: passage keys in memory and on disk, their search, and the passages' relevance.

Internal, except ``KeyCache`` and ``KeyStore``, which ``nest_engine`` exports.
"""
