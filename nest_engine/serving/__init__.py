"""Answers for many callers: the scheduler, the API server, the page, and what both servers share.

For users: ``Scheduler``, which ``nest_engine`` exports, and ``nest_engine.server``.
"""
