"""NEST in LangChain: ``nest_integrations.langchain`` under the name that its users expect."""

from typing import Any

import nest_integrations.langchain
from nest_integrations.langchain import *  # noqa: F403
from nest_integrations.langchain import __all__ as __all__


def __getattr__(name: str) -> Any:
    """Return what is imported only when it is asked for, such as ``CiteMiddleware``."""
    return getattr(nest_integrations.langchain, name)
