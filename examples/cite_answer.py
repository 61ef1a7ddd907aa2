"""Check and cite a text that any model has written: no model, no torch."""

from nest_engine import Passage, cite

passages = [
    Passage(
        "Helium was first seen in 1868, as a bright yellow line in the spectrum of the Sun.",
        title="Helium",
    ),
    Passage("Neon was discovered in 1898 by William Ramsay and Morris Travers.", title="Neon"),
]
answer = (
    "Helium was first seen in 1868, as a bright yellow line. "
    'According to the sources, "Neon was discovered in 1889 by William Ramsay".'
)

cited = cite(answer, passages)
for citation in cited.citations:
    print(f"- {citation.cited_text!r} ({citation.title})")
for quotation in cited.quotations:
    print(f"- quotation {quotation.verdict}: {answer[quotation.start : quotation.end]!r}")
for sentence in cited.sentences:
    print(f"- sentence {sentence.kind}: {answer[sentence.start : sentence.end]!r}")
