"""Keys of the passages of a request: from its own prompt, from the cache, or computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nest_engine._stopwatch import Stopwatch
from nest_engine.citations.attribution import Source
from nest_engine.citations.sentences import Sentence, in_tokens
from nest_engine.datastore.key_cache import KeyCache
from nest_engine.datastore.passage_keys import PassageKeys, encode_passages
from nest_engine.datastore.token_index import TokenIndex
from nest_engine.generation.prompts import passage_in_prompt
from nest_engine.generation.request import Request
from nest_engine.interfaces import LanguageModel, Prefill
from nest_engine.records import Passage


@dataclass(frozen=True)
class Datastore:
    """What one request can copy.

    Args:
        passages: the passages of the request.
        keys: keys of each passage; None where nothing is copied from it.
        num_encoded: passages whose keys had to be computed.
        sentences: of each passage, in characters; empty when spans may go beyond them.
        copies: passages that say what an earlier one says, each with the first of them.
    """

    passages: Sequence[Passage]
    keys: Sequence[PassageKeys | None]
    num_encoded: int
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
        wanted_B = [_wanted(request) for request in requests]
        ahead = {name: keys for request in requests for name, keys in request.read_ahead.items()}
        wanted = {
            name: passage
            for wanted in wanted_B
            for name, passage in wanted.items()
            if name not in ahead
        }
        known, encoded = _passage_keys(language_model, key_cache, wanted)
    datastores = []
    for request, in_prompt, wanted in zip(requests, in_prompt_B, wanted_B, strict=True):
        request.stopwatch.add(stopwatch)
        keys = [
            in_prompt[number]
            if number in in_prompt
            else (ahead | known)[_name(passage)]
            if _name(passage) in wanted and number not in request.copies
            else None
            for number, passage in enumerate(request.passages)
        ]
        num_encoded = len((encoded | request.read_ahead.keys()) & wanted.keys())
        datastores.append(
            Datastore(request.passages, keys, num_encoded, request.sentences or (), request.copies)
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
    with request.stopwatch.phase("index_building"):
        known, encoded = _passage_keys(language_model, key_cache, _wanted(request))
    return replace(request, read_ahead={name: known[name] for name in encoded})


_Name = tuple[str, str]


def _name(passage: Passage) -> _Name:
    return passage.title, passage.text


def _numbers_in_prompt(request: Request) -> set[int]:
    """Return which passages are in the prompt, whose keys reading it computes."""
    is_used = request.config.method in ("ra-nest", "lossless")
    return {each.number for each in request.located} if is_used else set()


def _wanted(request: Request) -> dict[_Name, Passage]:
    """Return the other passages whose keys are needed."""
    if not (request.may_copy and request.config.uses_datastore):
        return {}
    in_prompt = _numbers_in_prompt(request)
    return {
        _name(passage): passage
        for number, passage in enumerate(request.passages)
        if number not in in_prompt and number not in request.copies
    }


def _passage_keys(
    language_model: LanguageModel, key_cache: KeyCache, wanted: dict[_Name, Passage]
) -> tuple[dict[_Name, PassageKeys], set[_Name]]:
    """Return the keys of passages, and the names of those that had to be encoded."""
    model, device = language_model.fingerprint, language_model.device
    cached = {name: key_cache.get(model, passage, device) for name, passage in wanted.items()}
    known = {name: keys for name, keys in cached.items() if keys is not None}
    missing = [name for name in wanted if name not in known]
    if missing:
        encoded = encode_passages(language_model, [wanted[name] for name in missing])
        for name, keys in zip(missing, encoded, strict=True):
            known[name] = keys
            key_cache.put(model, wanted[name], keys)
    return known, set(missing)


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
