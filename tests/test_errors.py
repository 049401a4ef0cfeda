import pickle

import pytest

from setr.errors import EnvironmentFailure, InputError, IntegrityError


@pytest.mark.parametrize(("kind", "status"), [(InputError, 2), (IntegrityError, 3), (EnvironmentFailure, 4)])
def test_an_error_is_one_line_and_survives_the_way_to_another_process(kind, status):
    error = kind("E_X", "what\nhappened", where="file", found=1, expected=2, remedy="mend it")
    assert str(error) == "E_X | what happened | file | found 1, expected 2 | mend it"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.code, copy.exit_status) == (kind, str(error), "E_X", status)


def test_parts_that_are_not_given_leave_no_gap():
    assert str(InputError("E_X", "what", remedy="mend it")) == "E_X | what | mend it"
    assert str(InputError("E_X", "what", found=0)) == "E_X | what | found 0"


def test_a_long_value_is_cut():
    assert len(str(InputError("E_X", "what", found="x" * 10_000))) < 500
