"""What answers have beside their words: references to their sources, as models write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nest_engine.records import Passage

# What numbers are called, in the languages that models are asked in. Chapters, articles and figures
# are named by what is said.
LABEL = (
    r"(?i:sources?|docs?|documents?|passages?|ref(?:erence)?s?|citations?|cite|context|chunks?"
    r"|excerpts?|snippets?|quellen?|dokumente?|belege?|fuentes?|documentos?|referencias?|fontes?"
    r"|font[ei]|documenti?|bron(?:nen)?|źródł[oa]|kaynak|belge|источники?|документы?|出典|資料|文書"
    r"|来源|來源|文档|文檔|文献|출처|문서|자료|المصدر|المستند|स्रोत|दस्तावेज़|แหล่งที่มา|เอกสาร)"
)
AND = r"(?:[,;&、，–-]|\b(?:and|und|et|y|e|en|ve|и)\b)"
_NUMBERS = rf"\d{{1,3}}(?:\s?{AND}\s?(?:{LABEL}[ .:#]{{0,2}})?\d{{1,3}})*"
_LABELLED = rf"{LABEL}[ .:#_-]{{0,2}}{_NUMBERS}"
_LINK = r"\((?:https?://|www\.|[#/])(?:[^()\s]|\([^()\s]{0,100}\)){0,300}\)"
PAGES = (
    r"(?<!\w)(?i:pp?|pgs?|pages?|s|seiten?|págs?|páginas?|pagina|str|стр|с|第)\.?\s?\d{1,4}"
    r"(?:\s?[–-]\s?\d{1,4})?[页頁ページ]{0,3}"
)
# Raised: behind a letter it would be a power.
RAISED = (
    r"(?:[¹²³⁴-⁹][⁰¹²³⁴-⁹]?|<(?:sup|ref|cite)>\d{1,2}</(?:sup|ref|cite)>"
    r"|\^\d{1,2}(?:\^|(?![\w^]|[.,]\d))|(?<![,;:])\$?\^?\{{1,2}\d{1,2}\}{1,2}\$?)"
)
SEE = r"(?i:see|cf|compare|siehe|vgl|voir|ver|véase|vedi|zie|см)\.?\s"
_NAMES = rf"#?(?:{_NUMBERS}|{_LABELLED})(?:,\s?{PAGES})?"
_BRACKETS = rf"(?<!\\)\\?\[{{1,2}}\^?{_NAMES}\\?\]{{1,2}}(?:{_LINK})?"
# [1], [^2], [1, 3], [2, p. 5], [Source 1], [[1]](#1), (Sources 1 and 2), (see [2]), 【4†source】, a
# page in front of it included.
REFERENCE = re.compile(
    rf"(?:,\s{PAGES},?\s(?=[\[(【]))?(?:<sup>)?\^?"
    rf"(?:{_BRACKETS}|\((?:{SEE})?{_LABELLED}(?:,\s?{PAGES})?\)"
    rf"|\((?:{SEE}|{LABEL}:?\s)?{_BRACKETS}(?:,\s?{PAGES})?\)"
    rf"|［(?:{_NUMBERS}|{_LABELLED})］|（{_LABELLED}）"
    r"|【\d{1,3}(?::\d{1,3})?(?:†[^】\n]{0,40})?】)(?:</sup>)?"
    rf"|(?:(?<=[.,;:!?。！？”»’])|(?<=[.,!?]\")){RAISED}"
)
# A name in brackets behind what is quoted: (Helium), [notes.md, p. 3], [Source: Helium](http://...).
NAMED = re.compile(
    rf"[ .,;:]{{0,3}}(?:[(（]?[\[［【](?:{LABEL}[ .:]{{1,3}})?"
    rf"(?P<name>[^\[\]［］【】\n]{{1,200}})[\]］】](?P<link>{_LINK})?[)）]?"
    rf"|[(（](?:{LABEL}[ .:]{{1,3}})?"
    r"(?P<other>(?:[^()（）\n]|\([^()\n]{1,100}\)){1,200})[)）])"
)
LONGEST = 100  # characters, without a link
_PAGE = re.compile(r",.*")


def names_of(passage: Passage) -> set[str]:
    """Return what a passage is called: by its title or id, or by the file or page it comes from."""
    places = [place for place in (passage.uri, passage.metadata.get("source")) if place]
    paths = [place for place in places if isinstance(place, str)]
    files = [re.split(r"[/\\]", path)[-1] for path in paths]
    return {passage.title, passage.id, *paths, *files} - {""}


def read_name(name: str, link: str = "") -> list[str]:
    """Return what a name may be, the likeliest first: a page may stand behind it.

    Args:
        name: what stands in the brackets.
        link: where it leads, in parentheses.
    """
    return [each for each in (name.strip(), _PAGE.sub("", name).strip(), link.strip("()#")) if each]
