"""Whatever MLflow's client raises is one line without secrets, and an id that is none is not taken."""

from typing import Any

import pytest

from pipelines.tracking.answers import CheckedClient, checked_id
from setr.errors import InputError, SetrError

ADDRESS = "http://host:5000"


class Client:
    """Stands in for MLflow's: what it is asked for raises what it is given."""

    address = ADDRESS

    def get_run(self, number: int, *, deep: bool = False) -> tuple[int, bool]:
        return number, deep

    def fail(self, error: BaseException) -> None:
        raise error


@pytest.fixture
def client() -> Any:
    return CheckedClient(Client(), ADDRESS)


def test_methods_and_values_are_the_clients_own(client: Any) -> None:
    assert client.get_run(3, deep=True) == (3, True)
    assert client.address == ADDRESS
    with pytest.raises(AttributeError, match="no_such_method"):
        client.no_such_method()


@pytest.mark.parametrize(
    "error", [ValueError("no\nroom"), KeyError("x"), ConnectionError("no\nroom"), RuntimeError("")]
)
def test_a_failure_is_one_line_with_what_was_asked(client: Any, error: Exception) -> None:
    with pytest.raises(
        SetrError, match=r"^E_TRACKING.*\(fail\).*http://host:5000.*MLFLOW_TRACKING_URI=offline"
    ) as caught:
        client.fail(error)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__, "no traceback of the library's follows"
    if "no" in str(error):
        assert "| found no |" in str(caught.value)


def test_the_first_line_that_says_what_went_wrong_is_taken(client: Any) -> None:
    text = "(raised as a result of Query-invoked autoflush)\n\n(sqlite3.OperationalError) disk is full\n[SQL: ...]"
    with pytest.raises(SetrError, match=r"\(sqlite3\.OperationalError\) disk is full") as caught:
        client.fail(RuntimeError(text))
    assert "autoflush" not in str(caught.value)


def test_a_password_in_what_the_library_says_is_left_out(client: Any) -> None:
    with pytest.raises(SetrError, match="E_TRACKING") as caught:
        client.fail(RuntimeError("cannot connect to postgresql://me:hunter2@host/db"))
    assert "hunter2" not in str(caught.value)


def test_an_error_of_ours_stays_and_what_ends_a_process_passes(client: Any) -> None:
    with pytest.raises(InputError, match=r"^E_MINE"):
        client.fail(InputError("E_MINE", "told already"))
    with pytest.raises(KeyboardInterrupt):
        client.fail(KeyboardInterrupt())


@pytest.mark.parametrize("value", ["0", "a-b_C9", "f" * 32])
def test_an_id_is_given_back(value: str) -> None:
    assert checked_id(value, ADDRESS) == value


@pytest.mark.parametrize("value", [None, 7, "", "a/b", "../x", "a b", "a\n", "x" * 101, b"a"])
def test_another_answer_is_no_id(value: object) -> None:
    with pytest.raises(SetrError, match=r"^E_TRACKING.*none of MLflow's.*http://host:5000"):
        checked_id(value, ADDRESS)
