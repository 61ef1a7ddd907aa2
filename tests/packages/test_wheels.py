"""The wheels for a package index: what is in them, and that they work without the clone."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from nest_engine import __version__
from tests.tiny_models import tiny_model, tiny_tokenizer

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml"))
MEGABYTES = 2**20


def run(*command: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels that `make dist` builds, by the name of their distribution."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    for source in (ROOT, *(ROOT / "packages" / name for name in PACKAGES)):
        run(*build, str(source), cwd=ROOT, NEST_WITHOUT_MODEL="1")
    return {path.name.split("-")[0].replace("_", "-"): path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fresh environment with the wheels; what they depend on is that of this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder)
    own = str(folder / "bin" / "python")
    place = run(
        own, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    ).strip()
    # A path in a .pth file comes last, and the .pth files there do not count: not the clone's.
    (Path(place) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", own, "install", "--quiet", "--no-deps"]
    run(*pip, "--no-index", *map(str, wheels.values()), cwd=folder)
    return own


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_all_have_one_version_and_say_who_and_what(wheels: dict[str, Path]) -> None:
    assert sorted(wheels) == sorted(["nest-engine", *PACKAGES])
    for wheel in wheels.values():
        told = metadata(wheel)
        assert told["Version"] == __version__
        assert told["Author"] == "The nest-engine contributors"
        assert told["License-Expression"] == "Apache-2.0"
        assert told["License-File"] == "LICENSE"
        assert told["Requires-Python"] == ">=3.10"
        assert told.get_all("Project-URL")
        assert any(each.startswith("Programming Language") for each in told.get_all("Classifier"))


@pytest.mark.parametrize(
    ("name", "requires"),
    [
        ("langchain-nest", f"nest-engine[langchain]=={__version__}"),
        ("llama-index-llms-nest", f"nest-engine[llama-index]=={__version__}"),
        ("nest-demo-model", None),
    ],
)
def test_the_thin_ones_need_this_engine(
    wheels: dict[str, Path], name: str, requires: str | None
) -> None:
    assert metadata(wheels[name])["Requires-Dist"] == requires


def test_the_engine_goes_without_the_model(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["nest-engine"]) as archive:
        names = archive.namelist()
    assert wheels["nest-engine"].stat().st_size < 5 * MEGABYTES
    assert not [name for name in names if name.endswith(".safetensors")]
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "nest_demo",
        "nest_engine",
        "nest_integrations",
    }
    for needed in ("nest_engine/py.typed", "nest_demo/corpus.jsonl"):
        assert needed in names
    with zipfile.ZipFile(wheels["nest-demo-model"]) as archive:
        assert "nest_demo_model/model/model.safetensors" in archive.namelist()


def test_what_is_built_from_a_clone_has_the_model(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    run(*build, str(ROOT), cwd=ROOT)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "nest_demo/model/model.safetensors" in archive.namelist()


@pytest.mark.parametrize(
    ("thin", "of"),
    [
        ("langchain_nest", "nest_integrations.langchain"),
        ("llama_index.llms.nest", "nest_integrations.llama_index"),
    ],
)
def test_the_names_are_those_of_the_integration(
    python: str, tmp_path: Path, thin: str, of: str
) -> None:
    program = f"""
import {thin} as thin, {of} as of, nest_engine
assert thin.__all__ == of.__all__, (thin.__all__, of.__all__)
assert all(getattr(thin, name) is getattr(of, name) for name in of.__all__)
print(nest_engine.__file__)
"""
    place = run(python, "-c", program, cwd=tmp_path).strip()
    assert not place.startswith(str(ROOT))


def test_the_shipped_model_is_found_where_its_package_is(python: str, tmp_path: Path) -> None:
    program = "import nest_demo; print(nest_demo.model_path())"
    assert "nest_demo_model" in run(python, "-c", program, cwd=tmp_path)


def readme_blocks(package: str) -> list[str]:
    text = (ROOT / "packages" / package / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


# What an application has when it comes to the lines of the README.
BEFORE = """
import hashlib
TEXTS = {
    "Helium": "Helium was discovered by Janssen in 1868. It is light.",
    "Neon": "Neon glows red in tubes. Ramsay found it in 1898.",
}
def vector(text):
    words = [hashlib.sha256(word.strip('.?').lower().encode()).digest()[0] for word in text.split()]
    return [float(words.count(number)) + 0.01 for number in range(256)]
"""
LANGCHAIN = """
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.prompts import PromptTemplate
class Vectors(Embeddings):
    def embed_documents(self, texts): return [vector(text) for text in texts]
    def embed_query(self, text): return vector(text)
embeddings = Vectors()
documents = [Document(text, metadata={"title": title}) for title, text in TEXTS.items()]
prompt = PromptTemplate.from_template("{question}")
model = lambda prompt: "Helium was discovered by Janssen in 1868, they say."
"""
LLAMA_INDEX = """
from llama_index.core import Document
from llama_index.core.base.embeddings.base import BaseEmbedding
class Vectors(BaseEmbedding):
    def _get_text_embedding(self, text): return vector(text)
    def _get_query_embedding(self, query): return vector(query)
    async def _aget_query_embedding(self, query): return vector(query)
embed_model = Vectors()
documents = [Document(text=text, metadata={"file_name": name}) for name, text in TEXTS.items()]
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random model with a chat template, as an application would name it."""
    import copy

    folder = str(tmp_path_factory.mktemp("model"))
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    )
    tiny_model("llama", max_position_embeddings=4096).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("package", "before"),
    [("langchain-nest", LANGCHAIN), ("llama-index-llms-nest", LLAMA_INDEX)],
)
def test_the_readmes_lines_run(
    python: str, model: str, tmp_path: Path, package: str, before: str
) -> None:
    lines, afterwards = readme_blocks(package)
    assert "HuggingFaceTB/SmolLM2-360M-Instruct" in lines
    lines = lines.replace("HuggingFaceTB/SmolLM2-360M-Instruct", model)
    if package == "langchain-nest":
        afterwards += 'print(chain.invoke({"question": "Who discovered helium?"}).text)\n'
    else:
        afterwards += "print(response)\n"
    program = "\n".join([BEFORE, before, lines, "print('----')", afterwards])
    printed = run(python, "-c", program, cwd=tmp_path, HF_HUB_OFFLINE="1")
    first, second = printed.split("----")
    assert first.strip()
    assert second.strip()
