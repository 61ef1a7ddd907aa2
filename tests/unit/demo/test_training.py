"""Training of a demo model: what it learns from, and that a kill loses nothing but time."""

import dataclasses
import itertools
import json
import lzma
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from typer.testing import CliRunner

import nest_demo
from nest_demo import train as training
from nest_demo import training_data as data
from nest_demo.muon import Muon, orthogonalize
from nest_demo.train import Corpus, Recipe, Run
from nest_engine import ConfigError, InputError, NestEngine

TINY = Recipe(
    vocab_size=400,
    hidden_size=32,
    intermediate_size=64,
    layers=2,
    heads=2,
    kv_heads=1,
    tokens=64 * 12,
    batch_tokens=64,
    micro_batch_tokens=32,
    context=64,
    short_window=16,
    warmup_steps=3,
)


@pytest.fixture(scope="module")
def articles() -> list[data.Article]:
    passages = nest_demo.load_passages()
    return [
        data.Article(f"{p.title}{part}", p.text)
        for part in ("", " (again)", " (once more)")
        for p in passages
    ]


@pytest.fixture(scope="module")
def questions() -> list[data.FactualQuestion]:
    return [
        data.FactualQuestion("What is the symbol of tungsten?", ("W",), "Tungsten"),
        data.FactualQuestion("Who was never born?", ("Nobody",), "No such article"),
    ]


@pytest.fixture
def corpus(
    tmp_path: Path, articles: list[data.Article], questions: list[data.FactualQuestion]
) -> Corpus:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return Corpus(folder, articles, questions, TINY)


def new_run(folder: Path, recipe: Recipe = TINY) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(recipe, folder, torch.device("cpu"))


# ---- what it learns from


def test_documents_have_the_forms_in_which_the_engine_asks(
    articles: list[data.Article], questions: list[data.FactualQuestion]
) -> None:
    written = data.documents(articles, questions, seed=3)
    engine = nest_demo.load_engine()
    prompt = engine.format_question("").partition("\n")[0]
    asked = [text for text in written if text.startswith(prompt)]
    with_background = [text for text in written if text.startswith("Background: ")]
    plain = [text for text in written if text not in asked and text not in with_background]
    assert asked
    assert with_background
    assert all("\nAnswer: " in text for text in asked)
    assert all("\n\nQuestion: " in text and "\nAnswer: " in text for text in with_background)
    titles = [article.title for article in articles]
    assert all(any(text.startswith(f"{title}. ") for title in titles) for text in plain)
    assert sum("What is the symbol of tungsten?\nAnswer: W" in text for text in written) == 1
    assert not any("Nobody" in text for text in written)


def test_background_mostly_holds_what_the_answer_says(articles: list[data.Article]) -> None:
    pairs = [
        text.removeprefix("Background: ").split("\nAnswer: ")
        for seed in range(5)
        for text in data.documents(articles, [], seed=seed)
        if text.startswith("Background: ")
    ]
    held = [answer in background for background, answer in pairs]
    assert 0.85 < sum(held) / len(held) < 1


def test_every_character_of_an_article_is_in_its_passages(articles: list[data.Article]) -> None:
    for article in articles[:40]:
        for longest in (50, 200, 10_000):
            passages = list(data.cut(article.text, longest))
            assert " ".join(passages).split() == article.text.split()
            assert all(passage in article.text for passage in passages)


def test_documents_depend_on_the_seed_alone(articles: list[data.Article]) -> None:
    assert data.documents(articles, [], seed=1) == data.documents(articles, [], seed=1)
    assert data.documents(articles, [], seed=1) != data.documents(articles, [], seed=2)


def test_one_article_in_a_hundred_is_held_out_wherever_it_came_from() -> None:
    titles = [f"Article {number}" for number in range(20_000)]
    held_out = [title for title in titles if data.is_held_out(title)]
    assert 150 < len(held_out) < 250
    assert held_out == [title for title in reversed(titles) if data.is_held_out(title)][::-1]


def test_articles_are_read_packed_or_plain(tmp_path: Path) -> None:
    line = json.dumps({"title": "Tin", "text": "Tin is a metal.", "id": 7}) + "\n"
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.xz"
    plain.write_text(line)
    packed.write_bytes(lzma.compress(line.encode()))
    assert data.read_articles([plain, packed]) == [data.Article("Tin", "Tin is a metal.")] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"title": "Tin"}', "line 1: 'text' is missing; expected title, text"),
        ('{"title": "Tin", "text": "x"}\nnonsense', "line 2: not a JSON object"),
        ("7", "line 1: not a JSON object"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        data.read_articles([path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read: .*No such file"):
        data.read_articles([tmp_path / "none.jsonl"])


def test_a_shard_is_the_documents_behind_one_another(corpus: Corpus, tmp_path: Path) -> None:
    texts = ["One text.", "Ein zweiter, mit Ümläuten: 東京."]
    data.write_shard(tmp_path / "shard.bin", texts, corpus.tokenizer)
    shard = data.open_shard(tmp_path / "shard.bin")
    end = corpus.tokenizer.token_to_id(data.END_OF_TEXT)
    starts = [*np.flatnonzero(shard == end), len(shard)]
    read = [
        corpus.tokenizer.decode(shard[a + 1 : b].tolist()) for a, b in itertools.pairwise(starts)
    ]
    assert read == texts


def test_a_killed_shard_is_written_anew(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.write_shard(tmp_path / "shard.bin", ["A text."], corpus.tokenizer, kill)
    assert not (tmp_path / "shard.bin").exists()


# ---- how it learns


def test_the_learning_rate_rises_holds_and_falls() -> None:
    recipe = dataclasses.replace(TINY, tokens=1000, warmup_steps=4, decay=0.3)
    assert [recipe.rate(step, 0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert recipe.rate(9, 700) == pytest.approx(1.0)
    assert recipe.rate(9, 850) == pytest.approx(0.5)
    assert recipe.rate(9, 1000) == 0.0


def test_windows_fill_the_context_at_the_end() -> None:
    recipe = dataclasses.replace(TINY, tokens=1000, long_context=0.2)
    assert (recipe.window(0), recipe.window(799), recipe.window(801), recipe.window(999)) == (
        16,
        16,
        64,
        64,
    )


def test_batches_follow_one_another_and_targets_follow_inputs(corpus: Corpus) -> None:
    position = training.Position()
    first_inputs, first_targets = corpus.batch(position, 64, 16)
    inputs, _ = corpus.batch(position, 64, 64)
    assert first_inputs.shape == (4, 16)
    assert first_targets.flatten()[:-1].tolist() == first_inputs.flatten()[1:].tolist()
    assert inputs[0, 0] == first_targets.flatten()[-1]
    assert position.offset == 128


def test_another_pass_begins_where_one_ends(corpus: Corpus) -> None:
    position = training.Position()
    corpus.batch(position, 64, 64)
    position.offset = len(corpus._shard[1]) - 10
    inputs, _ = corpus.batch(position, 64, 64)
    assert (position.epoch, position.offset) == (1, 64)
    assert (
        inputs.flatten().tolist()
        == data.open_shard(corpus._folder / "epoch-0001.bin")[:64].tolist()
    )


def test_a_run_that_was_killed_gives_the_same_curve(corpus: Corpus, tmp_path: Path) -> None:
    whole, killed = new_run(tmp_path / "whole"), new_run(tmp_path / "killed")
    losses = [whole.update(corpus) for _ in range(12)]
    for step in range(7):
        killed.log(loss=killed.update(corpus))
        if step == 4:
            killed.save()
    resumed = new_run(tmp_path / "killed")
    assert resumed.position.step == 5
    # the two updates behind the checkpoint are forgotten, and made again
    assert len(resumed.curve()) == 5
    while not resumed.finished:
        resumed.log(loss=resumed.update(corpus))
    assert [line["loss"] for line in resumed.curve()] == losses
    assert losses[-1] < losses[0]
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_micro_batches_do_not_change_the_update(corpus: Corpus, tmp_path: Path) -> None:
    whole = new_run(tmp_path / "a", dataclasses.replace(TINY, micro_batch_tokens=64))
    parts = new_run(tmp_path / "b", dataclasses.replace(TINY, micro_batch_tokens=16))
    assert whole.update(corpus) == pytest.approx(parts.update(corpus), rel=1e-5)


def test_a_run_of_another_recipe_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    run.update(corpus)
    run.save()
    with pytest.raises(
        ConfigError, match="holds a run with seed=1, now 2 is asked for: take another --out"
    ):
        new_run(tmp_path / "run", dataclasses.replace(TINY, seed=2))


def test_a_run_may_become_longer_until_its_learning_rate_falls(
    corpus: Corpus, tmp_path: Path
) -> None:
    longer = dataclasses.replace(TINY, tokens=TINY.tokens * 2)
    run = new_run(tmp_path / "run")
    run.update(corpus)
    run.save()
    assert new_run(tmp_path / "run", longer).position.step == 1
    while not run.finished:
        run.update(corpus)
    run.save()
    with pytest.raises(
        ConfigError, match="holds a run for 768 tokens that has come to 768, too far"
    ):
        new_run(tmp_path / "run", longer)


def test_muon_makes_updates_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((24, 24), (16, 40), (40, 16)):
        left, right = (torch.linalg.qr(torch.randn(3, size, min(shape))).Q for size in shape)
        singular = torch.linspace(0.2, 1.0, min(shape))
        result = orthogonalize(left * singular @ right.mT)
        values = torch.linalg.svdvals(result)
        assert values.min() > 0.6
        assert values.max() < 1.3
        aligned = left.mT @ result @ right  # the singular vectors stay
        assert torch.allclose(
            aligned, torch.diag_embed(aligned.diagonal(dim1=-2, dim2=-1)), atol=1e-4
        )


def test_muon_descends() -> None:
    torch.manual_seed(0)
    weight, goal = torch.nn.Parameter(torch.randn(8, 6)), torch.randn(8, 6)
    optimizer = Muon([weight], lr=0.2)
    losses = []
    for _ in range(60):
        loss = (weight - goal).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


# ---- what comes out


def test_bits_per_byte_of_a_model_that_knows_nothing(corpus: Corpus, tmp_path: Path) -> None:
    model = new_run(tmp_path / "run").model
    # every token is as likely as any other
    torch.nn.init.zeros_(model.get_input_embeddings().weight)
    texts = ["A short text.", "Größe: 東京."]
    tokens = sum(len(corpus.tokenizer.encode(text).ids) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    assert training.bits_per_byte(model, corpus.tokenizer, texts) == pytest.approx(
        math.log2(400) * tokens / size
    )


def test_bits_per_byte_counts_what_the_context_holds(corpus: Corpus, tmp_path: Path) -> None:
    model = new_run(tmp_path / "run").model
    torch.nn.init.zeros_(model.get_input_embeddings().weight)
    text = "word " * 200
    read = corpus.tokenizer.encode(text)
    size = len(text[: read.offsets[62][1]].encode())
    assert training.bits_per_byte(model, corpus.tokenizer, [text]) == pytest.approx(
        math.log2(400) * 63 / size
    )


def test_the_command_trains_evaluates_and_exports(
    tmp_path: Path, articles: list[data.Article], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "articles.jsonl", tmp_path / "run"
    source.write_text(
        "".join(json.dumps(dataclasses.asdict(article)) + "\n" for article in articles)
    )
    monkeypatch.setitem(training.RECIPES, "nano", TINY)
    app = training.typer.Typer()
    app.command()(training.train)
    first = CliRunner().invoke(
        app, [str(source), "--out", str(out), "--stop-after-minutes", "0.00001"]
    )
    assert first.exit_code == 0, first.output
    assert (out / "checkpoint.pt").exists()
    assert not (out / "model").exists()
    second = CliRunner().invoke(app, [str(source), "--out", str(out)])
    assert second.exit_code == 0, second.output
    record = json.loads((out / "model" / "training.json").read_text())
    assert f"held-out bits per byte: {record['held_out_bits_per_byte']:.3f}" in second.output
    assert record["recipe"] == dataclasses.asdict(TINY)

    engine = NestEngine.from_pretrained(str(out / "model"), dtype="float32")
    passage = nest_demo.load_passages()[0]
    output = engine.ask("Tell me about the Sun.", passages=[passage], max_new_tokens=8)
    assert output.stats.completion_tokens > 0
    assert engine.format_question("Why?") == "Question: Why?\nAnswer:"
    weights = out / "model" / "model.safetensors"
    assert weights.stat().st_size < 3 * record["parameters"]  # two bytes each


def test_a_run_may_start_from_an_exported_model(
    tmp_path: Path, articles: list[data.Article], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "articles.jsonl"
    source.write_text(
        "".join(json.dumps(dataclasses.asdict(article)) + "\n" for article in articles)
    )
    monkeypatch.setitem(training.RECIPES, "nano", TINY)
    app = training.typer.Typer()
    app.command()(training.train)
    first, second = tmp_path / "first", tmp_path / "second"
    run = CliRunner().invoke(app, [str(source), "--out", str(first)])
    assert run.exit_code == 0, run.output
    exported = first / "model"
    begun = Run(TINY, tmp_path / "begun", torch.device("cpu"), start_from=exported)
    trained = new_run(first).model.state_dict()
    for name, weight in begun.model.state_dict().items():
        assert torch.equal(weight, trained[name].bfloat16().float())

    run = CliRunner().invoke(
        app,
        [
            str(source),
            "--out",
            str(second),
            "--start-from",
            str(exported),
            "--seed",
            "2",
            "--tokens",
            "256",
        ],
    )
    assert run.exit_code == 0, run.output
    record = json.loads((second / "model" / "training.json").read_text())
    assert record["started_from"] == json.loads((exported / "training.json").read_text())
    assert (second / "tokenizer.json").read_bytes() == (exported / "tokenizer.json").read_bytes()

    wider = dataclasses.replace(TINY, hidden_size=64)
    with pytest.raises(ConfigError, match="holds a model with hidden_size=32, this size has 64"):
        Run(wider, tmp_path / "wider", torch.device("cpu"), start_from=exported)
    with pytest.raises(ConfigError, match="holds no model that can be loaded"):
        Run(TINY, tmp_path / "none", torch.device("cpu"), start_from=tmp_path / "nothing")


def test_an_unknown_size_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "articles.jsonl", "--out", "x", "--size", "huge"])
    with pytest.raises(SystemExit) as stopped:
        training.main()
    assert stopped.value.code == 1
    assert "error: --size 'huge' is not known: one of nano, small" in capsys.readouterr().err


def test_the_chat_template_is_the_plain_form() -> None:
    tokenizer = Tokenizer.from_file(str(nest_demo.model_path() / "tokenizer.json"))
    assert tokenizer.token_to_id(data.END_OF_TEXT) is not None
    from transformers import PreTrainedTokenizerFast

    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=data.CHAT_TEMPLATE)
    messages = [
        {"role": "system", "content": "Background: Tin. Tin is a metal."},
        {"role": "user", "content": "What is tin?"},
        {"role": "assistant", "content": "A metal."},
        {"role": "user", "content": "And zinc?"},
    ]
    assert chat.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "Background: Tin. Tin is a metal.\n\nQuestion: What is tin?\nAnswer: A metal.\n\nQuestion: "
        "And zinc?\nAnswer:"
    )
