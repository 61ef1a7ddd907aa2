"""The algorithm. Begin with ``decoder.py``, which numbers the steps of the decoding loop.

Not for users. It speaks token ids and tensors; text stays outside.
"""
