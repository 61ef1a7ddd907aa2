"""What the package offers, and what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from nest_engine import NestConfig
from nest_integrations import langchain
from nest_integrations.langchain.settings import NestSettings


def test_public_names():
    assert langchain.__all__ == [
        "ChatNest",
        "CitationCallback",
        "CiteSources",
        "LangChainRetriever",
        "NestLLM",
        "NestRetriever",
        "VectorStoreWithScores",
        "to_document",
        "to_passage",
    ]
    assert all(getattr(langchain, name).__doc__ for name in langchain.__all__)
    assert langchain.CiteMiddleware.__doc__  # not for *: it needs the package langchain


def test_every_setting_of_the_engine_is_a_field():
    settings = set(NestSettings.model_fields) - {"config"}
    assert {"max_new_tokens" if name == "max_tokens" else name for name in settings} == set(
        NestConfig.__dataclass_fields__
    ) - {"tuned"}


def run_without(blocked: str, statement: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {blocked!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"{statement}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )


def test_import_needs_no_llama_index():
    finished = run_without("llama_index", "import nest_integrations.langchain; print('imported')")
    assert finished.stdout == "imported\n", finished.stderr


def test_import_without_langchain_names_the_install_command():
    statement = (
        "from nest_engine import MissingDependencyError\n"
        "try:\n    import nest_integrations.langchain\n"
        "except MissingDependencyError as error:\n    print(error.package, error.extra, error)"
    )
    finished = run_without("langchain_core", statement)
    assert finished.stdout == (
        "langchain-core langchain langchain-core is not installed; run: pip install "
        "'nest-engine[langchain]'\n"
    ), finished.stderr
