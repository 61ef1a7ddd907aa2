"""Results on disk: a line of JSON for every answer, and the settings they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nest_engine.citations.formats import json_ready
from nest_engine.errors import ConfigError, InputError

_SETTINGS, _LINES = "settings.json", "results.jsonl"

Record = dict[str, Any]


class Key(NamedTuple):
    """What is measured once: an example, a variant of a method, and a condition."""

    example: str
    variant: str
    condition: str

    @classmethod
    def of(cls, record: Record) -> Key:
        """Return the key of a record."""
        return cls(record["example"], record["variant"], record["condition"])


class Results:
    """A folder of results that grows until everything is measured, over any number of runs.

    Variants may be added later. All results must have been measured with the same settings.

    Args:
        folder: created if missing.
        settings: what all results depend on.
        variants: settings of each variant by its name.

    Raises:
        ConfigError: if the folder holds results of other settings.
        InputError: if its files cannot be read or written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        settings: Mapping[str, Any],
        variants: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.folder = folder = Path(folder)
        self._records: dict[Key, Record] = {}
        wanted = json.loads(
            json.dumps({"settings": json_ready(settings), "variants": json_ready(variants)})
        )
        if self._has_lines():  # a run that was stopped before its first result binds nobody
            if not (folder / _SETTINGS).exists():
                raise InputError(
                    f"{folder} holds {_LINES} without {_SETTINGS}; give another folder"
                )
            stored = self._read_settings()
            _require_same(folder, "settings", stored["settings"], wanted["settings"])
            for name in stored["variants"].keys() & wanted["variants"].keys():
                _require_same(
                    folder, f"variant {name!r}", stored["variants"][name], wanted["variants"][name]
                )
            wanted["variants"] = stored["variants"] | wanted["variants"]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f"{_SETTINGS}.partial"
            partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            partial.replace(folder / _SETTINGS)
            self._read_lines()
        except OSError as error:
            raise InputError(
                f"{folder} cannot hold results ({error.strerror or error}); give a folder that can "
                "be written"
            ) from error

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def append(self, records: Iterable[Record]) -> None:
        """Write results. Once this returns they survive a kill."""
        new = {Key.of(record): json_ready(record) for record in records}
        with (self.folder / _LINES).open("a", encoding="utf-8") as lines:
            # At once: what interrupts a write must not leave half a line to go on from.
            lines.write(
                "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in new.values())
            )
        self._records |= new

    def of(self, keys: Iterable[Key]) -> list[Record]:
        """Return the results that exist, in the order of the keys."""
        return [self._records[key] for key in keys if key in self._records]

    def _has_lines(self) -> bool:
        lines = self.folder / _LINES
        return lines.exists() and lines.stat().st_size > 0

    def _read_settings(self) -> dict[str, Any]:
        path = self.folder / _SETTINGS
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return {"settings": dict(stored["settings"]), "variants": dict(stored["variants"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} holds no settings of an evaluation ({error}); give another folder"
            ) from error

    def _read_lines(self) -> None:
        path = self.folder / _LINES
        if not path.exists():
            return
        data = path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        # After a kill in the middle of a line, that result is measured again.
        if len(complete) < len(data):
            with path.open("r+b") as lines:
                lines.truncate(len(complete))
        for number, line in enumerate(complete.splitlines(), 1):
            try:
                record = json.loads(line)
                self._records.setdefault(Key.of(record), record)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number}: not a result ({error}); give another folder"
                ) from error


def _require_same(
    folder: Path, what: str, stored: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    for name in [*stored, *(name for name in wanted if name not in stored)]:
        if stored.get(name) != wanted.get(name):
            raise ConfigError(
                f"{folder} holds results of other {what}: {name} was {stored.get(name)!r} and is "
                f"now {wanted.get(name)!r}; give another folder, or the same settings again"
            )
