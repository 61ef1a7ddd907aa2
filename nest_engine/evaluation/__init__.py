"""Quality, measured the paper's way: any model, any method, data that anyone can bring.

    articles = Articles(retriever.passages)
    evaluation = plan("qa", read_examples(path), variants, articles)
    results = Results(folder, identity(evaluation, engine, articles), {n: c.to_dict() for n, c in variants.items()})
    rows = summarize(evaluate(evaluation, engine, articles, results))
    print(to_markdown(rows))

``nest eval`` does this from the command line; ``docs/evaluation.md`` describes tasks, data and figures.
"""

from nest_engine.evaluation.articles import Articles
from nest_engine.evaluation.examples import Example, read_examples
from nest_engine.evaluation.metrics import METRICS, require_libraries
from nest_engine.evaluation.results import Record, Results
from nest_engine.evaluation.runner import SETTINGS, Evaluation, evaluate, factscore_records, identity, plan
from nest_engine.evaluation.summary import Estimate, Row, difference, summarize, to_dicts, to_markdown
from nest_engine.evaluation.tasks import TASKS

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
    "difference",
    "evaluate",
    "factscore_records",
    "identity",
    "plan",
    "read_examples",
    "require_libraries",
    "summarize",
    "to_dicts",
    "to_markdown",
]
