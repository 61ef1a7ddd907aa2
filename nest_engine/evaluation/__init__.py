"""Quality, measured the paper's way: for any model, any method, and your own data.

    articles = Articles(retriever.passages)
    evaluation = plan("qa", read_examples(path), variants, articles)
    settings = {name: config.to_dict() for name, config in variants.items()}
    results = Results(folder, identity(evaluation, engine, articles), settings)
    rows = summarize(evaluate(evaluation, engine, articles, results))
    print(to_markdown(rows))

``nest eval`` does this from the command line; ``docs/evaluation.md`` describes tasks, data and
figures. ``make_questions`` and ``tune`` are what ``nest tune`` calls.
"""

from nest_engine.evaluation.articles import Articles
from nest_engine.evaluation.examples import Example, read_examples
from nest_engine.evaluation.metrics import METRICS, require_libraries
from nest_engine.evaluation.results import Record, Results
from nest_engine.evaluation.runner import (
    SETTINGS,
    Evaluation,
    evaluate,
    factscore_records,
    identity,
    plan,
)
from nest_engine.evaluation.summary import (
    Estimate,
    Row,
    difference,
    summarize,
    to_dicts,
    to_markdown,
)
from nest_engine.evaluation.tasks import TASKS
from nest_engine.evaluation.tuning import Tuning, make_questions, tune

__all__ = [
    "METRICS",
    "SETTINGS",
    "TASKS",
    "Articles",
    "Estimate",
    "Evaluation",
    "Example",
    "Record",
    "Results",
    "Row",
    "Tuning",
    "difference",
    "evaluate",
    "factscore_records",
    "identity",
    "make_questions",
    "plan",
    "read_examples",
    "require_libraries",
    "summarize",
    "to_dicts",
    "to_markdown",
    "tune",
]
