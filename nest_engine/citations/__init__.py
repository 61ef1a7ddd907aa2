"""Exact citations from the tokens of an answer, formatted for people and programs.

For users: ``formats`` (the formats of other APIs) and ``rendering`` (terminal, Markdown, HTML).
Nothing here needs torch.
"""
