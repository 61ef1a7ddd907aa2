"""A request's way to its answer: passages into the prompt, the prompt to tokens, tokens to text.

Not for users: ``NestEngine`` is what they call.
"""
