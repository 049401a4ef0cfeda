"""A part of a study's file as it was written: a question about it is answered, or told as a mistake with its line."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from setr.errors import InputError, SetrError
from setr.settings.written import Written, plain

_T = TypeVar("_T")


@dataclass(frozen=True)
class StudyPart:
    """A value of the file, where it stands, and the list that its mistakes go to."""

    written: Written
    place: str  # tables.decoders.rows[1]
    file: Path
    mistakes: list[SetrError]

    @property
    def where(self) -> str:
        """Returns file, line and place."""
        return f"{self.file}:{self.written.line} {self.place}".rstrip()

    def mistake(self, what: str, *, found: object = "", expected: object = "", remedy: str = "") -> None:
        """Notes a mistake."""
        self.mistakes.append(
            InputError("E_STUDY", what, where=self.where, found=found, expected=expected, remedy=remedy)
        )

    def unknown(self, what: str, word: str, known: Iterable[str], *, remedy: str = "") -> None:
        """Notes a word that is none of those known, with the nearest."""
        words = tuple(known)
        near = difflib.get_close_matches(word, words, n=1)
        remedy = f"did you mean {near[0]}?" if near else remedy
        self.mistake(f"unknown {what}", found=word, expected=", ".join(words), remedy=remedy)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Returns the context in which an error about the part becomes a mistake, with the part's place."""
        try:
            yield
        except SetrError as error:
            parts = [part for part in str(error).split(" | ")[1:] if part]
            self.mistake(": ".join(parts[:1]), remedy=", ".join(parts[1:]))

    @property
    def is_mapping(self) -> bool:
        """Returns whether it holds keys and values."""
        return isinstance(self.written.value, dict)

    @property
    def is_list(self) -> bool:
        """Returns whether it is a list."""
        return isinstance(self.written.value, list)

    @property
    def is_empty(self) -> bool:
        """Returns whether nothing is written there: null, or no characters."""
        return self.written.value is None

    def entries(self, known: Sequence[str] = ()) -> dict[str, "StudyPart"]:
        """Returns its keys and values; with `known`, another key is a mistake and left out."""
        if self.is_empty:
            return {}
        if not self.is_mapping:
            self.mistake("not keys and values", found=plain(self.written))
            return {}
        found: dict[str, StudyPart] = {}
        for name, value in self.written.value.items():
            part = StudyPart(value, f"{self.place}.{name}" if self.place else name, self.file, self.mistakes)
            if known and name not in known:
                part.unknown("word", name, known)
            else:
                found[name] = part
        return found

    def each(self) -> list["StudyPart"]:
        """Returns the entries of a list; a value alone is a list of one."""
        if self.is_empty:
            return []
        if not self.is_list:
            return [self]
        return [
            StudyPart(value, f"{self.place}[{index}]", self.file, self.mistakes)
            for index, value in enumerate(self.written.value)
        ]

    def text(self) -> str:
        """Returns the characters that stand there."""
        if self.is_mapping or self.is_list or self.written.text is None:
            self.mistake("not text", found=plain(self.written))
            return ""
        return self.written.text

    def texts(self) -> tuple[str, ...]:
        """Returns a list of texts; a text alone is a list of one."""
        return tuple(part.text() for part in self.each())

    def whole(self, low: int, high: int) -> int:
        """Returns a whole number within bounds."""
        value = self.written.value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.mistake("not such a number", found=plain(self.written), expected=f"{low} to {high}")
            return low
        return value

    def number(self) -> float | None:
        """Returns a number, None for null."""
        value = self.written.value
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self.mistake("not a number", found=plain(self.written), expected="a number, or null for none")
            return None
        return value

    def flag(self) -> bool:
        """Returns true or false."""
        if not isinstance(self.written.value, bool):
            self.mistake("not true or false", found=plain(self.written))
        return bool(self.written.value)

    def plain(self) -> Any:
        """Returns the value as YAML has it."""
        return plain(self.written)

    def mapping(self, convert: Callable[["StudyPart"], _T]) -> dict[str, _T]:
        """Returns its keys with each value converted."""
        return {name: convert(part) for name, part in self.entries().items()}
