"""Keys of the passages of a request: from its own prompt, from the cache, or computed once.

Reading a passage for its keys costs as much as writing several tokens, so it has to pay:

- passages in the prompt are read anyway;
- ``ra-nest`` sentence by sentence quotes other passages by their sentences alone, whatever the
  cache holds; every other method uses keys that are stored or cached;
- ``nest`` and ``knn-lm``, and ``ra-nest`` as published, are searches for tokens: they read all;
- ``lossless`` drafts from unread passages where the text so far stands in them. It reads those
  ranked best, as many as cost a tenth of a short answer: on a GPU several, on a CPU mostly none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nest_engine._stopwatch import Stopwatch
from nest_engine.citations.attribution import Source
from nest_engine.citations.sentences import Sentence, in_tokens
from nest_engine.datastore.key_cache import KeyCache
from nest_engine.datastore.passage_keys import PassageKeys, encode_passages, unread
from nest_engine.datastore.token_index import TokenIndex
from nest_engine.generation.prompts import passage_in_prompt
from nest_engine.generation.request import Request
from nest_engine.interfaces import LanguageModel, Prefill
from nest_engine.records import Passage

_SHORT_ANSWER = 32  # tokens
_AFFORDABLE = 0.1  # of what it costs to write


@dataclass(frozen=True)
class Datastore:
    """What one request can copy.

    Args:
        passages: the passages of the request.
        keys: keys of each passage; None where nothing is copied from it.
        num_encoded: passages whose keys had to be computed.
        num_unread: passages that can be copied and were not read.
        sentences: of each passage, in characters; empty when spans may go beyond them.
        copies: passages that say what an earlier one says, each with the first of them.
    """

    passages: Sequence[Passage]
    keys: Sequence[PassageKeys | None]
    num_encoded: int
    num_unread: int
    sentences: Sequence[Sequence[Sentence]] = ()
    copies: Mapping[int, int] = field(default_factory=dict)

    def index(self, forbidden: frozenset[int], *, mask_copied: bool) -> TokenIndex:
        """Return a token index for one answer."""
        return TokenIndex(
            self.keys,
            forbidden=forbidden,
            mask_copied=mask_copied,
            sentences=[
                in_tokens(sentences, keys.tokens) if keys else []
                for sentences, keys in zip(self.sentences, self.keys, strict=True)
            ]
            if self.sentences
            else (),
        )

    def sources(self) -> list[Source]:
        """Return which characters the tokens of each passage stand for."""
        alike: dict[int, list[Passage]] = {}
        for copy, first in self.copies.items():
            alike.setdefault(first, []).append(self.passages[copy])
        return [
            Source(passage, keys.tokens.starts, keys.tokens.ends, alike.get(number, ()))
            if keys
            else Source(passage, (), ())
            for number, (passage, keys) in enumerate(zip(self.passages, self.keys, strict=True))
        ]


def build_datastores(
    language_model: LanguageModel,
    key_cache: KeyCache,
    requests: Sequence[Request],
    prefills: Sequence[Prefill],
) -> list[Datastore]:
    """Return the datastore of each request; the model reads passages without keys in one go.

    Args:
        language_model: the model.
        key_cache: where keys are kept between requests.
        requests: the requests.
        prefills: what reading each request's prompt yielded.

    Returns:
        one datastore for each request.
    """
    stopwatch = Stopwatch()
    with stopwatch.phase("index_building"):
        in_prompt_B = [
            _keys_in_prompt(request, prefill)
            for request, prefill in zip(requests, prefills, strict=True)
        ]
        others_B = [_others(request) for request in requests]
        known: dict[_Name, PassageKeys] = {}
        missing: dict[_Name, Passage] = {}
        for request, others in zip(requests, others_B, strict=True):
            known |= request.read_ahead or {}
            if _uses_keys(request):
                known |= _held(language_model, key_cache, others, known)
                missing |= _to_read(language_model, request, others, known)
        encoded = _encode(language_model, key_cache, missing)
        known |= encoded
        unread_B = [
            {
                name: unread(language_model, passage)
                for name, passage in others.items()
                if name not in known or not _uses_keys(request)
            }
            for request, others in zip(requests, others_B, strict=True)
        ]
    datastores = []
    for request, in_prompt, others, tokens in zip(
        requests, in_prompt_B, others_B, unread_B, strict=True
    ):
        request.stopwatch.add(stopwatch)
        copied = {name: tokens.get(name) or known[name] for name in others}
        keys = [
            in_prompt.get(number)
            or (None if number in request.copies else copied.get(_name(passage)))
            for number, passage in enumerate(request.passages)
        ]
        read = encoded.keys() | (request.read_ahead or {}).keys()
        datastores.append(
            Datastore(
                request.passages,
                keys,
                num_encoded=len((read & others.keys()) - tokens.keys()),
                num_unread=len(tokens),
                sentences=request.sentences or (),
                copies=request.copies,
            )
        )
    return datastores


def read_ahead(language_model: LanguageModel, key_cache: KeyCache, request: Request) -> Request:
    """Read the passages that are new to the model ahead of the prompt, in another thread, say.

    Args:
        language_model: the model.
        key_cache: where keys are kept between requests.
        request: the request.

    Returns:
        the request with the keys that had to be computed.
    """
    if not _uses_keys(request):
        return request
    with request.stopwatch.phase("index_building"):
        others = _others(request)
        known = _held(language_model, key_cache, others, {})
        missing = _to_read(language_model, request, others, known)
        return replace(request, read_ahead=_encode(language_model, key_cache, missing))


_Name = tuple[str, str]


def _name(passage: Passage) -> _Name:
    return passage.title, passage.text


def _numbers_in_prompt(request: Request) -> set[int]:
    """Return which passages are in the prompt, whose keys reading it computes."""
    is_used = request.config.method in ("ra-nest", "lossless")
    return {each.number for each in request.located} if is_used else set()


def _others(request: Request) -> dict[_Name, Passage]:
    """Return the passages outside the prompt that can be copied, best first."""
    if not (request.may_copy and request.config.uses_datastore):
        return {}
    in_prompt = _numbers_in_prompt(request)
    return {
        _name(passage): passage
        for number, passage in enumerate(request.passages)
        if number not in in_prompt and number not in request.copies
    }


def _uses_keys(request: Request) -> bool:
    """Return whether keys of passages outside the prompt are used, if there are any."""
    config = request.config
    return config.method != "ra-nest" or not config.by_sentence


def _held(
    language_model: LanguageModel,
    key_cache: KeyCache,
    passages: Mapping[_Name, Passage],
    known: Mapping[_Name, PassageKeys],
) -> dict[_Name, PassageKeys]:
    """Return those keys of passages, beyond the known ones, that are stored or cached."""
    model, device = language_model.fingerprint, language_model.device
    cached = {
        name: key_cache.get(model, passage, device)
        for name, passage in passages.items()
        if name not in known
    }
    return {name: keys for name, keys in cached.items() if keys is not None}


def _to_read(
    language_model: LanguageModel,
    request: Request,
    passages: Mapping[_Name, Passage],
    known: Mapping[_Name, PassageKeys],
) -> dict[_Name, Passage]:
    """Return the passages without keys that the model is to read."""
    missing = {name: passage for name, passage in passages.items() if name not in known}
    if request.config.method != "lossless" or not missing:
        return missing
    if request.read_ahead is not None:
        return {}  # what is affordable has been read
    cost = language_model.forward_cost
    left = _AFFORDABLE * _SHORT_ANSWER / (cost.two * cost.more)
    affordable = {}
    for name, passage in missing.items():
        left -= len(language_model.tokenizer.encode_passage(passage).token_ids)
        if left < 0:
            break
        affordable[name] = passage
    return affordable


def _encode(
    language_model: LanguageModel, key_cache: KeyCache, passages: Mapping[_Name, Passage]
) -> dict[_Name, PassageKeys]:
    """Let the model read passages, and keep their keys."""
    if not passages:
        return {}
    encoded = encode_passages(language_model, [*passages.values()])
    for passage, keys in zip(passages.values(), encoded, strict=True):
        key_cache.put(language_model.fingerprint, passage, keys)
    return dict(zip(passages, encoded, strict=True))


def _keys_in_prompt(request: Request, prefill: Prefill) -> dict[int, PassageKeys]:
    """Return the keys of passages in the prompt: reading it has already computed them."""
    numbers = _numbers_in_prompt(request)
    keys = {}
    for located in request.located:
        if located.number not in numbers:
            continue
        first, tokens = passage_in_prompt(request.tokens, located, request.prompt)
        skipped = 1 if first == 0 else 0  # nothing precedes the first token of a prompt
        last = first + len(tokens.token_ids)
        keys[located.number] = PassageKeys(
            tokens, skipped, prefill.hidden_TD[first + skipped - 1 : max(last - 1, 0)]
        )
    return keys
