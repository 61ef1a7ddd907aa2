"""Settings that tests share."""

from __future__ import annotations

from nest_engine import NestConfig

# NEST as in the paper, but for its pause after a rejected draft: for tests of the machinery, which
# copies tokens here and there.
WORD_BY_WORD = NestConfig.paper_7b(draft_after_rejection=True)
