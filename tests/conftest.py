"""Shared fixtures, and what `make test` leaves out. No test reaches the network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# Threads that wait do not spin: processes that compute side by side would keep each other waiting.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nest_engine import NestEngine

TESTS = Path(__file__).parent
# Wherever no model is named, the shipped one: it loads and answers in no time.
os.environ["NEST_MODEL"] = str(TESTS.parent / "nest_demo" / "model")
RAY = "integrations/ray"
# What is slow by nature, by the marker that selects it: a file, or all files of a folder. Each is
# marked `slow` besides. The longest come first: with two processes, the rest fills the end.
SLOW = {
    "ray": RAY,
    "notebook": "cookbooks",
    "real_model": "real_model",
    "browser": "ui/test_page.py",
    "processes": "unit/models/test_tensor_parallel.py",
    "benchmarks": "unit/benchmarks",
    "packages": "packages",
    "graphs": "unit/models/test_static_cache.py",
    "training": "unit/demo/test_training.py",
    "postgres": "integrations/langchain/test_postgres.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fail-on-skip",
        action="store_true",
        help="fail where a program or package is missing that a test needs, instead of skipping it",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """LangChain's standard tests bring a benchmark plugin; the test command measures nothing."""
    if hasattr(config.option, "benchmark_disable"):
        config.option.benchmark_disable = True


def pytest_sessionstart(session: pytest.Session) -> None:
    """Set up the libraries, but where tests are only handed out to other processes."""
    if session.config.getoption("dist", "no") != "no":
        return
    import hypothesis
    import torch
    import transformers

    torch.set_num_threads(1)  # tiny models spend more time waking threads than computing
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # The same examples every time, however long they take on a busy machine.
    hypothesis.settings.register_profile(
        "same",
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and let it come first."""
    places = {TESTS / place: marker for marker, place in SLOW.items()}
    order = [*SLOW, None]

    def marker_of(item: pytest.Item) -> str | None:
        return next((places[at] for at in (item.path, *item.path.parents) if at in places), None)

    items.sort(key=lambda item: order.index(marker_of(item)))
    for item in items:
        if marker := marker_of(item):
            item.add_marker("slow")
            item.add_marker(marker)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes, each file stays in one of them, and so does Ray with its cluster."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return RAY if nodeid.startswith(f"tests/{RAY}/") else super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return ByFile(config, log)


def _fail_instead_of_skipping(config: pytest.Config, report: Any) -> Any:
    """The suites that LangChain brings skip on purpose what a model does not claim to do."""
    if config.option.fail_on_skip and report.skipped and not hasattr(report, "wasxfail"):
        path, _, reason = report.longrepr
        if Path(path).is_relative_to(TESTS):
            report.outcome, report.longrepr = "failed", f"not run, and --fail-on-skip: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    return _fail_instead_of_skipping(item.config, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    return _fail_instead_of_skipping(collector.config, (yield))


@pytest.fixture(scope="session", autouse=True)
def _no_clock_chooses_drafts() -> Iterator[None]:
    """`lossless` drafts as much as pays by the time of forwards: answers would cite differently."""
    from nest_engine.interfaces import ForwardCost
    from nest_engine.models import forward_time

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(forward_time, "forward_cost", lambda language_model: ForwardCost(1.0, 0.02))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_cpu_chooses_numbers() -> Iterator[None]:
    """The tests are exact in float32, on CPUs with instructions for bfloat16 too."""
    from nest_engine.models import precision

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(precision, "cpu_computes_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="session")
def tiny_engine() -> NestEngine:
    """An engine on a tiny random Llama."""
    from nest_engine import NestEngine
    from tests.tiny_models import tiny_model, tiny_tokenizer

    return NestEngine(tiny_model("llama"), tiny_tokenizer())


@pytest.fixture(scope="session")
def demo_engine() -> NestEngine:
    """An engine on the shipped model, in float32."""
    import nest_demo

    return nest_demo.load_engine()
