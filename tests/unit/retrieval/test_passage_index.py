from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nest_engine import Passage
from nest_engine.errors import (
    ConfigError,
    CorruptIndexError,
    IndexMismatchError,
    InputError,
    PassageIndexError,
)
from nest_engine.retrieval import (
    BM25Retriever,
    DenseRetriever,
    HybridRetriever,
    PassageIndex,
    passage_index,
)
from nest_engine.retrieval.generation import Generation
from nest_engine.retrieval.manifest import FileRecord, sha256_of
from nest_engine.retrieval.passage_store import PassageStore
from tests.unit.retrieval.conftest import LetterEmbedder

QUERIES = ["Who discovered helium?", "rivers of Africa", "zzyzx", ""]


def found(index: PassageIndex, mode: str | None = None) -> list[list[tuple[str, float | None]]]:
    answers = index.retriever(mode).retrieve(QUERIES, 5)  # type: ignore[arg-type]
    return [[(passage.id, passage.score) for passage in answer] for answer in answers]


def only_generation(root: Path) -> Path:
    (directory,) = root.glob("generation-*")
    return directory


def reseal(root: Path, change: Callable[[Path], None]) -> None:
    """Alter an index as an attacker would who can also make the checksums right."""
    directory = only_generation(root)
    manifest = json.loads((directory / "manifest.json").read_text())
    change(directory)
    for name in manifest["files"]:
        manifest["files"][name] = vars(FileRecord.of(directory / name))
    write_manifest(root, manifest)


def write_manifest(root: Path, manifest: object) -> None:
    path = only_generation(root) / "manifest.json"
    path.write_text(json.dumps(manifest))
    (root / "CURRENT").write_text(f"{path.parent.name} {sha256_of(path)}\n")


def read_manifest(root: Path) -> dict[str, object]:
    return json.loads((only_generation(root) / "manifest.json").read_text())


@pytest.fixture
def root(tmp_path: Path, passages: list[Passage], embedder: LetterEmbedder) -> Path:
    PassageIndex.build(passages, tmp_path / "index", embedder=embedder)
    return tmp_path / "index"


class TestRoundTrip:
    def test_answers_as_the_retrievers_in_memory(self, root: Path, passages, embedder):
        sparse, dense = BM25Retriever(passages), DenseRetriever(passages, embedder)
        index = PassageIndex.open(root, embedder=embedder)
        for mode, retriever in (
            ("bm25", sparse),
            ("dense", dense),
            ("hybrid", HybridRetriever(sparse, dense)),
        ):
            expected = retriever.retrieve(QUERIES, 5)
            assert found(index, mode) == [[(p.id, p.score) for p in answer] for answer in expected]

    def test_the_mode_follows_the_embedder(self, root: Path, embedder):
        assert isinstance(PassageIndex.open(root, embedder=embedder).retriever(), HybridRetriever)
        assert isinstance(PassageIndex.open(root).retriever(), BM25Retriever)

    def test_passages_are_kept_exactly(self, tmp_path: Path):
        corpus = [
            Passage(
                "Line\r\n\x00\u2028👩\u200d🚀",
                "שלום",
                "a#1",
                "x/ü.txt",
                3.5,
                "CC0",
                {"page": 2, "list": [1, None]},
            ),
            Passage('"quoted" \\ {"json"}'),
        ]
        index = PassageIndex.build(corpus, tmp_path / "index")
        assert [p.to_dict() for p in index.passages] == [
            p.to_dict() | {"score": None} for p in corpus
        ]
        assert index.passages[-1].text == corpus[-1].text
        assert [p.id for p in index.passages[:1]] == ["a#1"]
        with pytest.raises(IndexError):
            index.passages[2]

    def test_info(self, root: Path, passages, embedder):
        info = PassageIndex.open(root).info()
        assert info.passages == len(passages)
        assert info.bytes == sum(
            p.stat().st_size for p in only_generation(root).iterdir() if p.name != "manifest.json"
        )
        assert (info.embedder, info.embedder_fingerprint) == (
            "LetterEmbedder()",
            embedder.fingerprint,
        )
        assert (info.dimension, info.format_version) == (26, 2)
        assert info.created.endswith("+00:00")

    def test_equal_corpora_give_equal_files(self, root: Path, tmp_path: Path, passages, embedder):
        PassageIndex.build(tuple(passages), tmp_path / "again", embedder=embedder)
        first, second = (read_manifest(path)["files"] for path in (root, tmp_path / "again"))
        assert first == second
        other = PassageIndex.build(passages[1:], tmp_path / "other").info()
        assert PassageIndex.open(root).info().corpus_sha256 != other.corpus_sha256

    def test_a_corpus_without_words(self, tmp_path: Path):
        PassageIndex.build([Passage("..."), Passage("!")], tmp_path / "index")
        assert PassageIndex.open(tmp_path / "index").retriever().retrieve(["dots"], 2) == [[]]

    def test_progress_covers_both_stages(self, tmp_path: Path, passages, embedder):
        calls: list[tuple[int, int]] = []
        PassageIndex.build(
            passages, tmp_path / "i", embedder=embedder, progress=lambda *call: calls.append(call)
        )
        assert calls == [(done, 24) for done in (*range(1, 13), 24)]

    def test_threads_share_an_index(self, root: Path, embedder):
        index = PassageIndex.open(root, embedder=embedder)
        expected, answers = found(index), []
        threads = [threading.Thread(target=lambda: answers.append(found(index))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [expected] * 8


class TestClusters:
    def vector_files(self, root: Path) -> list[str]:
        return sorted(path.name for path in only_generation(root).glob("*vectors.npy"))

    @pytest.mark.parametrize(
        ("exact", "up_to", "file", "clusters"),
        [
            (None, 12, "vectors.npy", None),
            (None, 11, "clusters.vectors.npy", 1),
            (True, 11, "vectors.npy", None),
            (False, 12, "clusters.vectors.npy", 1),
        ],
    )
    def test_the_number_of_passages_decides_unless_told_otherwise(
        self,
        tmp_path: Path,
        passages,
        embedder,
        monkeypatch,
        exact,
        up_to: int,
        file: str,
        clusters,
    ):
        monkeypatch.setattr(passage_index, "EXACT_UP_TO", up_to)
        calls: list[tuple[int, int]] = []
        built = PassageIndex.build(
            passages,
            tmp_path / "i",
            embedder=embedder,
            exact=exact,
            progress=lambda *call: calls.append(call),
        )
        assert self.vector_files(tmp_path / "i") == [file]
        index = PassageIndex.open(tmp_path / "i", embedder=embedder)
        assert built.info().clusters == index.info().clusters == clusters
        assert calls[-1] == ((24, 24) if clusters is None else (36, 36))
        in_memory = DenseRetriever(passages, embedder)
        expected = [[(p.id, p.score) for p in answer] for answer in in_memory.retrieve(QUERIES, 5)]
        assert found(index, "dense") == expected  # one cluster holds everything
        assert (index.retriever("dense").fingerprint == in_memory.fingerprint) == (clusters is None)

    def test_exact_without_an_embedder_means_nothing(self, tmp_path: Path, passages):
        with pytest.raises(
            ConfigError, match="exact=False is about vectors, and there is no embedder"
        ):
            PassageIndex.build(passages, tmp_path / "index", exact=False)

    def test_damage_is_found(self, tmp_path: Path, passages, embedder):
        root = tmp_path / "index"
        PassageIndex.build(passages, root, embedder=embedder, exact=False)
        path = only_generation(root) / "clusters.rows.npy"
        intact = path.read_bytes()
        path.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
        with pytest.raises(CorruptIndexError, match=r"clusters.rows.npy has SHA-256"):
            PassageIndex.open(root, embedder=embedder)
        path.write_bytes(intact)
        reseal(root, lambda directory: np.save(directory / "clusters.rows.npy", np.arange(11)))
        with pytest.raises(CorruptIndexError, match=r"do not fit together: .*'rows': \(11,\)"):
            PassageIndex.open(root, embedder=embedder)


class TestBuildErrors:
    def test_no_passages(self, tmp_path: Path):
        with pytest.raises(InputError, match="no passages to index"):
            PassageIndex.build([], tmp_path / "index")
        assert not (tmp_path / "index").exists()

    def test_two_passages_with_one_id(self, tmp_path: Path):
        with pytest.raises(InputError, match="two different passages have the id 'x'"):
            PassageIndex.build([Passage("one", id="x"), Passage("two", id="x")], tmp_path / "index")
        # the same one twice is fine
        index = PassageIndex.build([Passage("one"), Passage("one")], tmp_path / "index")
        assert len(index.passages) == 2

    @pytest.mark.parametrize("value", [object(), {1}, float("nan"), "\ud800"])
    def test_metadata_that_is_not_json(self, tmp_path: Path, value: object):
        with pytest.raises(InputError, match="passage 'x' cannot be stored as JSON"):
            PassageIndex.build(
                [Passage("one", id="x", metadata={"key": value})], tmp_path / "index"
            )

    def test_a_failed_build_leaves_nothing_behind(self, tmp_path: Path):
        with pytest.raises(InputError):
            PassageIndex.build([Passage("one", metadata={"key": object()})], tmp_path / "index")
        assert list((tmp_path / "index").glob("generation-*")) == []
        with pytest.raises(PassageIndexError, match="there is no passage index"):
            PassageIndex.open(tmp_path / "index")

    def test_a_directory_with_other_files_is_left_alone(self, tmp_path: Path, passages):
        (tmp_path / "notes.txt").write_text("Mine.")
        with pytest.raises(
            PassageIndexError,
            match=r"holds other files, such as 'notes.txt'; give the index a directory",
        ):
            PassageIndex.build(passages, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    def test_a_stray_file_does_not_keep_an_index_from_being_rebuilt(self, root: Path, passages):
        (root / ".DS_Store").touch()
        assert len(PassageIndex.build(passages[:2], root).passages) == 2

    def test_a_file_in_the_way(self, tmp_path: Path, passages):
        (tmp_path / "index").write_text("A file.")
        with pytest.raises(PassageIndexError, match="cannot be written"):
            PassageIndex.build(passages, tmp_path / "index")

    def test_two_builds_at_once(self, root: Path, passages):
        def build_again(done: int, total: int) -> None:
            with pytest.raises(PassageIndexError, match="another process is building"):
                PassageIndex.build(passages, root)

        PassageIndex.build(passages[:1], root, progress=build_again)
        assert len(PassageIndex.open(root).passages) == 1


class TestOpenErrors:
    def test_a_missing_index(self, tmp_path: Path):
        with pytest.raises(
            PassageIndexError, match=r"no passage index at .*: nest index build DIR --out .*nowhere"
        ):
            PassageIndex.open(tmp_path / "nowhere")

    def test_another_embedder(self, root: Path, embedder):
        embedder.fingerprint = "letters, other weights"
        with pytest.raises(
            IndexMismatchError,
            match=r"built with LetterEmbedder\(\) \(letters, 26 dimensions\) and opened with "
            r"LetterEmbedder\(\) \(letters, other weights\).*nest index build DIR --out",
        ):
            PassageIndex.open(root, embedder=embedder)

    def test_an_embedder_for_an_index_without_vectors(self, tmp_path: Path, passages, embedder):
        index = PassageIndex.build(passages, tmp_path / "index")
        with pytest.raises(IndexMismatchError, match="built without vectors"):
            PassageIndex.open(tmp_path / "index", embedder=embedder)
        with pytest.raises(IndexMismatchError, match="mode 'dense' needs vectors"):
            index.retriever("dense")

    def test_a_mode_that_needs_the_embedder(self, root: Path):
        with pytest.raises(
            ConfigError, match=r"mode 'hybrid' needs the embedder that .*, LetterEmbedder\(\)"
        ):
            PassageIndex.open(root).retriever("hybrid")

    def test_an_unknown_mode(self, root: Path):
        with pytest.raises(
            ConfigError, match=r"mode='colbert' is not valid: expected one of bm25, dense, hybrid"
        ):
            PassageIndex.open(root).retriever("colbert")  # type: ignore[arg-type]


class TestDamage:
    def names(self, root: Path) -> list[str]:
        return sorted(path.name for path in only_generation(root).iterdir())

    def test_every_flipped_bit_is_found(self, root: Path):
        for name in self.names(root):
            path = only_generation(root) / name
            intact = path.read_bytes()
            for position in (0, len(intact) // 2, len(intact) - 1):
                damaged = bytearray(intact)
                damaged[position] ^= 1
                path.write_bytes(damaged)
                with pytest.raises(
                    CorruptIndexError, match=rf"{name} has SHA-256 [0-9a-f]+, expected [0-9a-f]+"
                ):
                    PassageIndex.open(root)
            path.write_bytes(intact)
        PassageIndex.open(root)

    def test_every_truncated_or_missing_file_is_found_without_reading_it(self, root: Path):
        for name in self.names(root):
            path = only_generation(root) / name
            intact = path.read_bytes()
            path.write_bytes(intact[:-1])
            with pytest.raises(CorruptIndexError, match=name):
                PassageIndex.open(root, verify=False)
            path.unlink()
            with pytest.raises(CorruptIndexError, match=rf"{name} cannot be read"):
                PassageIndex.open(root, verify=False)
            path.write_bytes(intact)

    def test_verify_reads_everything(self, root: Path, embedder):
        path = only_generation(root) / "vectors.npy"
        damaged = bytearray(path.read_bytes())
        damaged[-1] ^= 1
        path.write_bytes(damaged)
        index = PassageIndex.open(root, embedder=embedder, verify=False)
        with pytest.raises(CorruptIndexError, match=r"vectors.npy has SHA-256"):
            index.verify()

    @pytest.mark.parametrize(
        "pointer",
        ["", "generation-0123456789abcdef\n", "../../etc " + "0" * 64 + "\n", "\xff\x00" * 500],
    )
    def test_a_damaged_pointer(self, root: Path, passages, pointer: str):
        (root / "CURRENT").write_text(pointer, encoding="latin-1")
        with pytest.raises(
            CorruptIndexError, match=r"CURRENT holds .*names no generation; rebuild"
        ):
            PassageIndex.open(root)
        PassageIndex.build(passages, root)  # which is the remedy
        assert found(PassageIndex.open(root))

    def test_a_pointer_to_a_generation_that_is_gone(self, root: Path):
        shutil.rmtree(only_generation(root))
        with pytest.raises(CorruptIndexError, match=r"manifest.json cannot be read"):
            PassageIndex.open(root)

    def test_a_file_that_is_not_listed(self, root: Path):
        (only_generation(root) / "extra.npy").touch()
        with pytest.raises(CorruptIndexError, match=r"extra.npy is not in the manifest"):
            PassageIndex.open(root, verify=False)

    def test_another_format_version(self, root: Path):
        write_manifest(root, read_manifest(root) | {"format_version": 99, "shape": "unknown"})
        with pytest.raises(
            IndexMismatchError, match="has format version 99, this release reads version 2; rebuild"
        ):
            PassageIndex.open(root)

    @pytest.mark.parametrize(
        "change",
        [
            {"files": {}},
            {"files": {"a": {"size": 1}}},
            {"files": None},
            {"created": 1, "more": 2},
            {"num_passages": 11},
            {"dense": {"fingerprint": "letters"}},
            {"dense": "letters"},
        ],
    )
    def test_a_manifest_that_does_not_fit(self, root: Path, change: dict[str, object]):
        manifest = read_manifest(root)
        if change == {"files": {}}:
            del manifest["files"]
            change = {}
        write_manifest(root, manifest | change)
        with pytest.raises(CorruptIndexError, match="rebuild"):
            PassageIndex.open(root)


class TestHostileIndex:
    """The checksums are right: whoever made the index meant it so."""

    @pytest.mark.parametrize(
        "name", ["../secret", "/etc/passwd", "..", "a\\b", "C:x", "", "a/b", "nul\0"]
    )
    def test_a_manifest_that_leads_out_is_refused(self, root: Path, name: str):
        manifest = read_manifest(root)
        manifest["files"] = {name: {"size": 1, "sha256": "0" * 64}}
        write_manifest(root, manifest)
        with pytest.raises(CorruptIndexError, match="not a plain file name"):
            PassageIndex.open(root)

    def test_links_are_refused(self, root: Path, tmp_path: Path):
        path = only_generation(root) / "passages.jsonl"
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CorruptIndexError, match=r"passages.jsonl is not a regular file"):
            PassageIndex.open(root)

    def test_a_linked_generation_is_refused(self, root: Path, tmp_path: Path):
        directory = only_generation(root)
        directory.rename(tmp_path / "elsewhere")
        directory.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CorruptIndexError, match="symbolic link"):
            PassageIndex.open(root)

    @pytest.mark.parametrize(
        "name", ["vectors.npy", "passages.offsets.npy", "indices.csc.index.npy"]
    )
    def test_pickles_are_refused_and_not_run(self, root: Path, tmp_path: Path, embedder, name: str):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "exploded"),)

        reseal(
            root,
            lambda directory: np.save(
                directory / name, np.array([Bomb()], object), allow_pickle=True
            ),
        )
        with pytest.raises(CorruptIndexError, match="rebuild"):
            PassageIndex.open(root, embedder=embedder)
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize("name", ["vectors.npy", "passages.offsets.npy", "data.csc.index.npy"])
    def test_a_huge_header_is_refused(self, root: Path, embedder, name: str):
        header = b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + b"{" * 1000
        reseal(root, lambda directory: (directory / name).write_bytes(header))
        with pytest.raises(CorruptIndexError, match="rebuild"):
            PassageIndex.open(root, embedder=embedder)

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("vectors.npy", np.ones((12, 26))),
            ("vectors.npy", np.ones(12, np.float32)),
            ("vectors.npy", np.ones((11, 26), np.float32)),
            ("passages.offsets.npy", np.arange(13)),
            ("passages.offsets.npy", np.zeros(0, np.int64)),
            ("indptr.csc.index.npy", np.arange(4)),
            ("data.csc.index.npy", np.ones(3, np.float32)),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(
        self, root: Path, embedder, name: str, array: np.ndarray
    ):
        reseal(root, lambda directory: np.save(directory / name, array))
        with pytest.raises(CorruptIndexError, match="rebuild"):
            PassageIndex.open(root, embedder=embedder)

    def test_a_line_that_is_no_passage_is_found_when_read(self, root: Path):
        def blank_first_line(directory: Path) -> None:
            lines = (directory / "passages.jsonl").read_bytes()
            end = lines.index(b"\n")
            (directory / "passages.jsonl").write_bytes(b" " * end + lines[end:])

        reseal(root, blank_first_line)
        with pytest.raises(
            CorruptIndexError, match=r"passage 0 of .*passages.jsonl cannot be read"
        ):
            PassageIndex.open(root).passages[0]

    def test_a_line_with_unknown_fields_is_found_when_read(self, tmp_path: Path):
        (tmp_path / "passages.jsonl").write_bytes(b'{"text": "a", "call": "b"}\n')
        np.save(tmp_path / "passages.offsets.npy", np.array([0, 27]))
        with pytest.raises(CorruptIndexError, match="passage 0 of"):
            PassageStore(tmp_path)[0]


class TestGenerations:
    def test_a_rebuild_replaces_the_index(self, root: Path, passages):
        PassageIndex.build(passages[:3], root)
        assert len(PassageIndex.open(root).passages) == 3
        only_generation(root)  # the old one is gone

    def test_an_open_index_outlives_its_replacement(self, root: Path, passages, embedder):
        index = PassageIndex.open(root, embedder=embedder)
        expected = found(index)
        PassageIndex.build(passages[:3], root)
        assert found(index) == expected

    def test_a_replacement_during_opening(self, root: Path, passages, monkeypatch):
        check, calls = Generation.check, []

        def rebuild_first(generation: Generation, *, contents: bool) -> None:
            calls.append(generation.directory)
            if len(calls) == 1:
                PassageIndex.build(passages[:3], root)
            check(generation, contents=contents)

        monkeypatch.setattr(Generation, "check", rebuild_first)
        assert len(PassageIndex.open(root).passages) == 3

    def test_a_full_disk_leaves_the_old_index(self, root: Path, passages, embedder, monkeypatch):
        expected = found(PassageIndex.open(root, embedder=embedder))

        def no_space(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(
            PassageIndexError, match=r"No space left on device.*before, if any, is still in use"
        ):
            PassageIndex.build(passages[:3], root)
        monkeypatch.undo()
        assert found(PassageIndex.open(root, embedder=embedder)) == expected
        only_generation(root)  # what was written before is gone

    def test_everything_is_on_disk_before_the_switch(self, root: Path, passages, monkeypatch):
        synced, switched = set(), []
        fsync, replace = os.fsync, os.replace

        def note_fsync(descriptor: int) -> None:
            synced.add(os.path.realpath(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        def note_replace(source: Path, target: Path) -> None:
            files = {os.path.realpath(path) for path in Path(source).parent.iterdir()}
            switched.append(files | {os.path.realpath(Path(source).parent)} <= synced)
            replace(source, target)

        if not Path("/proc/self/fd").exists():
            pytest.skip("needs /proc")
        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(os, "replace", note_replace)
        PassageIndex.build(passages, root)
        assert switched == [True]
