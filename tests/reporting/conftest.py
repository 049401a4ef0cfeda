"""Generated records for the report's tests; nothing here was measured."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.generated_results import make_picture, make_result, make_results
from setr.reporting.numbers.results import Result


@pytest.fixture
def results_of() -> Callable[..., list[Result]]:
    return make_results


@pytest.fixture
def result_of() -> Callable[..., Result]:
    return make_result


@pytest.fixture
def picture() -> Callable[..., Path]:
    return make_picture


@pytest.fixture(scope="session")
def make_all() -> Callable[..., list[Result]]:
    return make_results
