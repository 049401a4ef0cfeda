"""What MLflow's client answers, made sure of: a failure is one line without secrets, an id is an id.

The server, its artifact store and its database fail in as many ways as there are libraries below the client; for a
command there is one: E_TRACKING, with what was asked and what went wrong first.
"""

import re
from typing import Any

from setr.errors import EnvironmentFailure, SetrError
from setr.redaction import first_line, redact

_ID = re.compile(r"[\w-]{1,100}")
_LATER = "mend it, or set MLFLOW_TRACKING_URI=offline and use pipelines/track_import.py later"


class CheckedClient:
    """Stands for a client: every method is the client's own, and raises EnvironmentFailure for whatever it raises."""

    def __init__(self, client: Any, address: str) -> None:
        """Ask `client`; `address` is named where it fails."""
        self._client, self._address = client, address

    def __getattr__(self, name: str) -> Any:
        """Returns a method of the client, or one of its values."""
        method = getattr(self._client, name)
        if not callable(method):
            return method

        def ask(*arguments: Any, **named: Any) -> Any:
            try:
                return method(*arguments, **named)
            except SetrError:
                raise
            except Exception as error:  # of requests, SQLAlchemy, boto3, protobuf, MLflow: nobody can list them
                raise EnvironmentFailure(
                    "E_TRACKING",
                    f"MLflow does not do what is asked ({name})",
                    where=self._address,
                    found=_reason(error),
                    remedy=_LATER,
                ) from None

        return ask


def _reason(error: Exception) -> str:
    """Returns the first line that says what went wrong: SQLAlchemy begins with how it came to ask."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("(raised as a result")]
    return redact(lines[0]) if lines else first_line(error)


def checked_id(value: object, address: str) -> str:
    """Returns the id of a run or an experiment; raises EnvironmentFailure if a server answers with something else."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise EnvironmentFailure(
            "E_TRACKING",
            "the answer is none of MLflow's",
            where=address,
            found=f"the id {value!r}",
            remedy="is MLFLOW_TRACKING_URI the address of an MLflow server?",
        )
    return value
