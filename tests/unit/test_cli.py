"""The command line on the demo model: what it prints, where, and with which exit code."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner, Result

import nest_demo
import nest_engine
from nest_engine import NestEngine
from nest_engine.cli import app, console, demo_command, loading
from nest_engine.cli.options import Search, parse_setting
from nest_engine.retrieval import PassageIndex

QUESTION = "Tell me about helium."
HELIUM = (
    "Helium was first seen in 1868 by the astronomer Jules Janssen during a solar eclipse in "
    "India. "
    "It is the second lightest element and the second most common one in the universe."
)
NEON = "Neon is a gas that glows red in signs. William Ramsay found it in London in 1898."

# Imports the command line without running `nest_engine/__init__.py`, so that only its own imports
# are seen.
BARE = (
    "import sys, types; package = types.ModuleType('nest_engine'); "
    f"package.__path__ = {list(nest_engine.__path__)!r}; sys.modules['nest_engine'] = package; "
)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_tables_lose_nothing(is_terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    row = {f"heading{number}": f"value_of_column={number}" for number in range(9)}
    with pytest.MonkeyPatch.context() as patch:
        terminal = Console(force_terminal=is_terminal, width=80, no_color=True, highlight=False)
        patch.setattr(console, "STDOUT", terminal)
        console.show_rows("A table", [row])
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert is_terminal or all(value in printed for value in row.values())


@pytest.fixture(autouse=True)
def one_model(monkeypatch: pytest.MonkeyPatch, demo_engine: NestEngine) -> None:
    """Load the demo model once for all tests; everything else is as in real life."""

    def load_engine(model: str | None, retriever: Any = None, load: Any = None) -> NestEngine:
        assert model is None
        return NestEngine(demo_engine.language_model, retriever=retriever)

    monkeypatch.setattr(loading, "load_engine", load_engine)
    monkeypatch.delenv("NEST_DEBUG", raising=False)


@pytest.fixture(scope="module")
def demo_engine() -> NestEngine:
    return NestEngine.from_pretrained(str(nest_demo.model_path()), dtype="float32")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "helium.md").write_text(HELIUM, encoding="utf-8")
    (folder / "neon.txt").write_text(NEON, encoding="utf-8")
    return folder


@pytest.fixture
def index(docs: Path, tmp_path: Path) -> Path:
    assert nest("index", "build", docs, "--out", tmp_path / "index").exit_code == 0
    return tmp_path / "index"


class LetterEmbedder:
    """Counts letters: a vector for any text, without a model."""

    fingerprint = "letters, 26 dimensions"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array(
            [[1 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts],
            dtype=np.float32,
        )


class Nothing:
    """Finds no passage, and remembers what it was asked."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    def retrieve(self, queries: Sequence[str], k: int) -> list[list[nest_engine.Passage]]:
        self.queries += queries
        return [[] for _ in queries]


def nest(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ask(docs: Path, *arguments: object) -> Result:
    return nest("ask", QUESTION, "--docs", docs, "--max-new-tokens", 24, *arguments)


def answer(docs: Path, *arguments: object) -> dict[str, Any]:
    """Ask for JSON and return it: everything on stdout, or this fails."""
    result = ask(docs, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )


def assert_fails_on_one_line(result: Result, message: str, exit_code: int = 1) -> None:
    assert result.exit_code == exit_code
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in result.stderr


# --- without a model


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    checked = "import nest_engine.cli; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"

    assert run_python(BARE + checked).stdout == "set()\n"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_libraries_it_names_the_install_command(missing: str) -> None:
    blocked = f"sys.modules['{missing}'] = sys.modules['{missing}.console'] = None; "
    result = run_python(BARE + blocked + "from nest_engine.cli import main; main()")

    assert result.returncode == 1
    assert result.stderr == f"{missing} is not installed; run: pip install 'nest-engine[cli]'\n"
    assert result.stdout == ""


def test_help_lists_the_commands() -> None:
    top, index = nest("--help"), nest("index", "--help")

    assert top.exit_code == index.exit_code == 0
    assert all(command in top.stdout for command in ("demo", "ask", "tune", "eval", "index"))
    assert all(command in index.stdout for command in ("build", "info", "search"))


def test_version() -> None:
    assert nest("--version").stdout == f"nest-engine {nest_engine.__version__}\n"


@pytest.mark.parametrize(
    ("pair", "setting"),
    [
        ("gamma=5e-4", ("gamma", 5e-4)),
        ("k=10", ("k", 10)),
        ("mask_copied=False", ("mask_copied", False)),
        ("mask_copied=true", ("mask_copied", True)),
        ("fixed_lambda=None", ("fixed_lambda", None)),
        ("method=ra-nest", ("method", "ra-nest")),
        ('stop=["a", "="]', ("stop", ["a", "="])),
        ("stop==", ("stop", "=")),
    ],
)
def test_settings_are_read_from_text(pair: str, setting: tuple[str, Any]) -> None:
    name, value = parse_setting(pair)

    assert (name, value) == setting
    assert type(value) is type(setting[1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "gamma"],
        ["--format", "xml"],
        ["--max-new-tokens", "many"],
        ["--search", "google"],
        ["--no-such-option"],
    ],
)
def test_wrong_usage_exits_with_2(docs: Path, arguments: list[str]) -> None:
    result = ask(docs, *arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "gama=1"], "unknown setting 'gama'; did you mean 'gamma'?"),
        (["--set", "gamma=2"], "gamma=2 is not valid: expected a number from 0 to 1"),
        (["--method", "magic"], "method='magic' is not valid: expected one of lm, knn-lm, nest"),
        (["--temperature", "-1"], "temperature=-1.0 is not valid"),
        (["--passages", "0"], "num_passages=0 is not valid"),
    ],
)
def test_a_bad_setting_is_reported_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, docs: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(loading, "open_retriever", lambda *_: pytest.fail("read documents first"))

    assert_fails_on_one_line(ask(docs, *arguments), message)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    assert_fails_on_one_line(ask(tmp_path / "nowhere"), "nowhere does not exist")
    assert_fails_on_one_line(ask(tmp_path), "no readable document")
    assert_fails_on_one_line(nest("index", "info", tmp_path), "there is no passage index at")
    assert_fails_on_one_line(nest("index", "search", tmp_path, "x"), "there is no passage index at")


def test_a_damaged_index_is_refused(index: Path) -> None:
    (stored,) = index.glob("generation-*/passages.jsonl")
    stored.write_bytes(stored.read_bytes()[:-10])

    assert_fails_on_one_line(ask(index), "passages.jsonl")
    assert_fails_on_one_line(nest("index", "info", index), "passages.jsonl")


def test_an_index_is_not_written_over_other_files(docs: Path) -> None:
    assert_fails_on_one_line(nest("index", "build", docs, "--out", docs), str(docs))
    assert (docs / "helium.md").read_text(encoding="utf-8") == HELIUM


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (PermissionError(13, "Permission denied", "secret.txt"), "secret.txt: Permission denied"),
        (OSError("two\nlines"), "two lines"),
        (ZeroDivisionError("a bug"), "ZeroDivisionError: a bug (NEST_DEBUG=1 shows where)"),
        (OSError("\x1b[31mred [bold]\x1b[0m"), "␛[31mred [bold]␛[0m"),
    ],
)
def test_every_failure_is_one_line(
    monkeypatch: pytest.MonkeyPatch, docs: Path, error: BaseException, message: str
) -> None:
    monkeypatch.setattr(loading, "open_retriever", raising(error))

    result = ask(docs)
    assert result.stderr == f"error: {message}\n"
    assert_fails_on_one_line(result, message)


def test_nest_debug_shows_the_error_itself(monkeypatch: pytest.MonkeyPatch, docs: Path) -> None:
    monkeypatch.setenv("NEST_DEBUG", "1")

    with pytest.raises(nest_engine.InputError, match="does not exist"):
        CliRunner().invoke(
            app, ["index", "build", str(docs / "no"), "--out", "x"], catch_exceptions=False
        )


# --- index


def test_index_build_reports_what_it_skips(docs: Path, tmp_path: Path) -> None:
    (docs / "broken.txt").write_bytes(b"\xff\xfe\x00")
    result = nest("index", "build", docs, "--out", tmp_path / "index")

    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'index'}: passages: 2\n"
    assert "skipped: broken.txt: " in result.stderr
    assert len(PassageIndex.open(tmp_path / "index").passages) == 2


def test_index_info_shows_every_field(index: Path) -> None:
    result = nest("index", "info", index)

    shown = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert shown["passages"] == "2"
    assert shown["embedder"] == shown["dimension"] == "-"
    assert set(shown) == set(PassageIndex.open(index).info().__dataclass_fields__)


def test_keys_are_stored_with_the_index_and_used(docs: Path, tmp_path: Path, index: Path) -> None:
    built = nest("index", "build", docs, "--out", index, "--keys", "int8")
    assert f"{index / 'keys'}: keys of 2 passages, " in built.stdout
    assert "keys: int8 of 2 passages\n" in nest("index", "info", index).stdout
    for folder, is_read in ((index, False), (docs, True)):
        answer = json.loads(ask(folder, "--json", "--method", "nest").stdout)
        assert (answer["stats"]["encoded_passages"] > 0) is is_read

    manifest = index / "keys" / "manifest.json"
    other = json.loads(manifest.read_text()) | {"fingerprint": "of another model"}
    manifest.write_text(json.dumps(other))
    answered = ask(index, "--json", "--method", "nest")
    assert json.loads(answered.stdout)["stats"]["encoded_passages"] > 0
    assert "note: computing keys anew: the keys in" in answered.stderr


def test_a_model_without_keys_to_compute_is_refused(docs: Path, tmp_path: Path) -> None:
    result = nest("index", "build", docs, "--out", tmp_path / "index", "--model", "any")
    assert_fails_on_one_line(result, "--model any is only used with --keys")


def test_index_search_shows_the_best_passages_first(index: Path) -> None:
    for query, first, second in (
        ("the gas helium", "helium", "neon"),
        ("a gas that glows red in signs, not in the universe", "neon", "helium"),
    ):
        found = nest("index", "search", index, query).stdout
        assert re.findall(r"^\d\. \w+", found, re.MULTILINE) == [f"1. {first}", f"2. {second}"]
    assert "Neon is a gas that glows red in signs." in found

    one = nest("index", "search", index, "helium in the universe, or neon", "-k", 1)
    assert "2. " not in one.stdout


def test_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    text = "Helium is a gas, and its story is long. " * 5
    (tmp_path / "docs.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    nest("index", "build", tmp_path / "docs.jsonl", "--out", tmp_path / "index")

    assert text.strip() in nest("index", "search", tmp_path / "index", "helium").stdout.splitlines()


def test_index_search_without_a_hit_says_so_on_stderr(index: Path) -> None:
    result = nest("index", "search", index, "xylophone")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "note: no passage matches\n"


def test_a_poisoned_passage_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    line = {
        "title": "\x1b[31mred\x1b[0m [bold]T[/bold]",
        "text": "poison \x1b]0;owned\x07 [link=x]text[/link] \x9b31m",
    }
    (tmp_path / "docs.jsonl").write_text(json.dumps(line), encoding="utf-8")
    nest("index", "build", tmp_path / "docs.jsonl", "--out", tmp_path / "index")
    result = nest("index", "search", tmp_path / "index", "poison")

    assert "␛[31mred␛[0m [bold]T[/bold]" in result.stdout
    assert "poison ␛]0;owned␇ [link=x]text[/link] �31m" in result.stdout
    assert not {"\x1b", "\x07", "\x9b"} & set(result.stdout)


def test_vectors_are_stored_and_searched_on_request(
    monkeypatch: pytest.MonkeyPatch, docs: Path, tmp_path: Path
) -> None:
    loaded: list[str | None] = []
    monkeypatch.setattr(
        loading, "load_embedder", lambda name: loaded.append(name) or LetterEmbedder()
    )
    dense = tmp_path / "dense"

    assert nest("index", "build", docs, "--out", dense, "--dense").exit_code == 0
    assert nest("index", "build", docs, "--out", dense, "--embedder", "mine").exit_code == 0
    assert loaded == [None, "mine"]
    assert "dimension: 26\n" in nest("index", "info", dense).stdout

    # No passage shares a word with the query, so only vectors can find one.
    for arguments in (["--search", "dense"], ["--search", "hybrid"], ["--embedder", "mine"]):
        assert nest("index", "search", dense, "rmsy", *arguments).stdout.startswith("1. ")
    assert loaded == [None, "mine", None, None, "mine"]

    by_keyword = nest("index", "search", dense, "rmsy")
    assert by_keyword.stdout == ""
    assert "also holds vectors" in by_keyword.stderr
    assert len(loaded) == 5


def test_vectors_are_clustered_on_request(
    monkeypatch: pytest.MonkeyPatch, docs: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "load_embedder", lambda name: LetterEmbedder())
    build = ("index", "build", docs, "--out", tmp_path / "index")

    for option, clusters in (("--approximate", 1), ("--exact", "-")):
        assert nest(*build, "--dense", option).exit_code == 0
        assert f"clusters: {clusters}\n" in nest("index", "info", tmp_path / "index").stdout
        assert nest(
            "index", "search", tmp_path / "index", "rmsy", "--search", "dense"
        ).stdout.startswith("1. ")
        assert_fails_on_one_line(
            nest(*build, option), f"{option} is about vectors: add --dense or --embedder"
        )


def test_vector_search_of_a_folder(monkeypatch: pytest.MonkeyPatch, docs: Path) -> None:
    monkeypatch.setattr(loading, "load_embedder", lambda name: LetterEmbedder())

    for mode in ("dense", "hybrid"):
        retriever = loading.open_retriever([docs], Search(mode), None)
        assert len(retriever.retrieve(["rmsy"], 2)[0]) == 2
    assert loading.open_retriever([docs], None, None).retrieve(["rmsy"], 2) == [[]]


def test_an_index_without_vectors_refuses_vector_search_at_once(
    monkeypatch: pytest.MonkeyPatch, index: Path
) -> None:
    monkeypatch.setattr(loading, "load_embedder", lambda name: pytest.fail("loaded a model first"))

    assert_fails_on_one_line(
        nest("index", "search", index, "gas", "--search", "dense"), "needs vectors"
    )
    assert_fails_on_one_line(ask(index, "--embedder", "mine"), "needs vectors")


# --- ask, with the demo model


def test_ask_json_is_one_object_with_citations_that_match_the_files(docs: Path) -> None:
    (docs / "broken.txt").write_bytes(b"\xff\xfe\x00")
    result = ask(docs, "--json")

    answered = json.loads(result.stdout)
    assert answered["question"] == QUESTION
    assert answered["citations"]
    for citation in answered["citations"]:
        cited = answered["text"][citation["answer_start"] : citation["answer_end"]]
        source = Path(citation["uri"]).read_text(encoding="utf-8")
        start = citation["metadata"]["start_index"] + citation["source_start"]
        assert source[start : start + len(cited)] == cited == citation["cited_text"]
    assert answered["stats"]["completion_tokens"] <= 24
    assert "skipped: broken.txt: " in result.stderr


def test_ask_gives_the_same_answer_from_a_folder_a_file_and_an_index(
    docs: Path, index: Path
) -> None:
    texts = {answer(source)["text"] for source in (docs, index)}

    assert len(texts) == 1
    assert [passage["title"] for passage in answer(docs / "helium.md")["passages"]] == ["helium"]


def test_ask_writes_every_format(docs: Path) -> None:
    text = ask(docs)
    assert "[1] helium" in text.stdout
    assert "% of the text cited" in text.stdout.splitlines()[-1]
    markdown = ask(docs, "--format", "markdown").stdout
    assert "[^1]: helium" in markdown
    html = ask(docs, "--format", "html").stdout
    assert html.startswith("<!DOCTYPE html>")
    assert f"<title>{QUESTION}</title>" in html
    assert json.loads(ask(docs, "--format", "json").stdout).keys() == answer(docs).keys()


def test_ask_passes_settings_on(docs: Path) -> None:
    assert answer(docs, "--method", "lm")["citations"] == []
    assert answer(docs, "--set", "max_new_tokens=3")["stats"]["completion_tokens"] == 3
    assert len(answer(docs, "--passages", 1)["passages"]) == 1

    whole = answer(docs)["text"]
    word = whole.split()[4]
    assert answer(docs, "--stop", word)["text"] == whole[: whole.index(word)]

    sampled = [
        answer(docs, "--method", "lm", "--temperature", 1.5, "--seed", seed)["text"]
        for seed in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1] != sampled[2]


def test_ask_searches_for_the_question_itself(monkeypatch: pytest.MonkeyPatch, docs: Path) -> None:
    nothing = Nothing()
    monkeypatch.setattr(loading, "open_retriever", lambda *_: nothing)

    assert answer(docs, "--max-new-tokens", 1)["question"] == QUESTION
    assert nothing.queries == [QUESTION]


def test_ask_writes_notices_to_stderr(docs: Path) -> None:
    result = nest(
        "ask", QUESTION, "--docs", docs, "--json", "--max-new-tokens", 100_000, "--stop", " "
    )

    assert "note: the answer was limited to" in result.stderr
    assert any(
        "the answer was limited to" in notice for notice in json.loads(result.stdout)["notices"]
    )


# --- demo


def test_demo_compares_a_method_with_the_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_command, "DEMO_TOKENS", 16)
    monkeypatch.setattr(demo_command, "STDOUT", Console(width=120))
    result = nest("demo", "--question", "Tell me about Triton.")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Tell me about Triton. ")
    assert "[1] Triton" in result.stdout
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in result.stdout.splitlines()
        if "│" in line
    ]
    (asked, lm, _, lm_forwards, lm_rate, lm_cited), (_, method, _, forwards, _, cited) = rows
    assert (asked, lm, method) == ("Tell me about Triton.", "lm", "nest")
    assert (lm_rate, lm_cited) == ("1.0", "0%")
    assert int(forwards) < int(lm_forwards)
    assert int(cited.rstrip("%")) > 50


def test_demo_json_quotes_the_shipped_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_command, "DEMO_TOKENS", 16)
    monkeypatch.setattr(demo_command, "DEMO_QUESTIONS", 2)
    result = nest("demo", "--json", "--method", "lossless")

    answers = json.loads(result.stdout)["answers"]
    assert [a["question"] for a in answers] == [
        shipped.question for shipped in nest_demo.load_questions()[:2]
    ]
    corpus = {passage.id: passage.text for passage in nest_demo.load_passages()}
    for answered in answers:
        assert answered["methods"]["lossless"]["text"] == answered["methods"]["lm"]["text"]
        for citation in answered["methods"]["lossless"]["citations"]:
            quoted = corpus[citation["passage_id"]][
                citation["source_start"] : citation["source_end"]
            ]
            assert quoted == citation["cited_text"]


def test_demo_asks_all_questions_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = NestEngine.ask

    def count(engine: NestEngine, question: str, **settings: Any) -> Any:
        asked.append(question)
        return real(engine, question, **settings | {"max_new_tokens": 1})

    monkeypatch.setattr(NestEngine, "ask", count)
    assert nest("demo", "--all", "--method", "lm", "--json").exit_code == 0
    assert asked == [shipped.question for shipped in nest_demo.load_questions()]


def test_demo_reports_a_bad_method() -> None:
    assert_fails_on_one_line(nest("demo", "--method", "magic"), "method='magic' is not valid")


def test_the_engine_is_loaded_as_users_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real loader
    engine = loading.load_engine(None, Nothing())
    by_path = loading.load_engine(str(nest_demo.model_path()), Nothing())

    for loaded in (engine, by_path):
        assert (
            loaded.generate(
                loaded.format_question(QUESTION), max_new_tokens=1
            ).stats.completion_tokens
            == 1
        )
    # of the same numbers
    assert engine.language_model.fingerprint == by_path.language_model.fingerprint


def test_a_model_is_loaded_as_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(loading, "_has_gpu", lambda: True)
    model: Any = loading.load_engine(
        None, Nothing(), ["dtype=bfloat16", "static_cache=true"]
    ).language_model
    assert str(model.model.dtype) == "torch.bfloat16"
    assert model._static_cache is not None
    assert "GPU" not in capsys.readouterr().err

    (tmp_path / "own").symlink_to(nest_demo.model_path())
    loading.load_engine(str(tmp_path / "own"), Nothing())
    assert (
        "the model is on the CPU; --load device=cuda puts it on the GPU" in capsys.readouterr().err
    )

    assert_fails_on_one_line(ask(docs, "--load", "device=nowhere"), "cannot be put on 'nowhere'")
    assert_fails_on_one_line(ask(docs, "--load", "colour=red"), "colour")
    assert "'dtype' is not of the form name=value" in ask(docs, "--load", "dtype").stderr
    built = nest("index", "build", docs, "--out", tmp_path / "i", "--load", "dtype=float16")
    assert_fails_on_one_line(built, "--load dtype=float16 is only used with --keys")


def test_a_model_that_does_not_exist_is_one_line(
    monkeypatch: pytest.MonkeyPatch, docs: Path
) -> None:
    monkeypatch.undo()

    assert_fails_on_one_line(ask(docs, "--model", docs / "no" / "such" / "model"), "no/such/model")
