"""The errors a user can mend: one line that says what, where, found against expected, and what to do.

Exit statuses: 2 bad input, 3 integrity (bytes are not what was written), 4 environment (disk, server, cluster).
"""

from collections.abc import Sequence
from typing import Any

from setr.redaction import redact

_READ = 20_000  # characters of one part that are looked at; 400 are shown


class SetrError(ValueError):
    """An error that the user can mend; its text is always one line, without the secrets of an address in it."""

    exit_status = 2

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: object = "",
        found: object = "",
        expected: object = "",
        remedy: str = "",
    ) -> None:
        """Join the parts that are given into `CODE | what | where | found ..., expected ... | remedy`."""
        self.code = code
        comparison = ", ".join(
            f"{word} {_one_line(value)}" for word, value in (("found", found), ("expected", expected)) if value != ""
        )
        parts = [code, what, where, comparison, remedy]
        super().__init__(" | ".join(_one_line(part) for part in parts if part != ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what a copy in another process is made of: Python would call __init__ with the text alone."""
        return _restore, (type(self), self.code, str(self))


class InputError(SetrError):
    """Data, configuration or a checkpoint is not what it should be (exit status 2)."""


class InputErrors(InputError):
    """Several mistakes in one file, all told at once: a line each."""

    def __init__(self, errors: Sequence[SetrError]) -> None:
        """Join the lines of `errors`, of which there is at least one."""
        self.code = errors[0].code
        ValueError.__init__(self, "\n".join(map(str, errors)))


class IntegrityError(SetrError):
    """Bytes differ from what their manifest says (exit status 3)."""

    exit_status = 3


class EnvironmentFailure(SetrError):
    """Disk, tracking server or cluster cannot do what is asked (exit status 4)."""

    exit_status = 4


def _restore(kind: type[SetrError], code: str, text: str) -> SetrError:
    error = kind.__new__(kind)
    ValueError.__init__(error, text)
    error.code = code
    return error


def _one_line(value: object) -> str:
    text = redact(" ".join(str(value)[:_READ].split()))
    text = text if len(text) <= 400 else text[:397] + "..."
    # What a terminal would obey, and what no encoding has, is shown and not sent.
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def syntax_failure(error: SyntaxError) -> InputError:
    """Returns the error that names the line of code which Python cannot read."""
    where = f"{error.filename or 'unknown file'}:{error.lineno or 0}"
    text = (error.text or "").strip()
    return InputError("E_CODE_SYNTAX", f"not Python: {error.msg}", where=where, found=text, remedy="mend the line")
