"""A group of processes as the environment speaks of it: whole, none, or a mistake; and meeting it."""

import socket
import threading
import time

import pytest

from setr.errors import EnvironmentFailure, InputError
from setr.training.group import NEEDED, Group, group_of, meet

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_a_whole_group_is_read():
    assert group_of(WHOLE) == Group(1, 2, 0, "127.0.0.1", 29500)
    assert group_of({**WHOLE, "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}).met


@pytest.mark.parametrize(
    "environment", [{}, {"WORLD_SIZE": "1"}, {"WORLD_SIZE": ""}, {"MASTER_ADDR": "a"}, {"RANK": "0"}]
)
def test_what_names_nobody_else_is_a_process_alone(environment):
    assert group_of(environment) == Group()


@pytest.mark.parametrize("absent", NEEDED)
def test_half_a_group_is_refused(absent):
    environment = {name: value for name, value in WHOLE.items() if name != absent}
    with pytest.raises(InputError, match=rf"half a group.*expected {absent} too.*unset"):
        group_of(environment)


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_what_one_variable_leaves_over_is_refused(name):
    with pytest.raises(InputError, match=f"half a group.*unset {name} to train alone"):
        group_of({name: "3"})


@pytest.mark.parametrize("text", ["x", "-1", "2", "1.0", "9" * 30, " 1", "\u0661"])
def test_a_rank_that_is_none_is_refused(text):
    with pytest.raises(InputError, match=r"E_GROUP.*RANK"):
        group_of({**WHOLE, "RANK": text})


@pytest.mark.parametrize(("name", "text"), [("WORLD_SIZE", "0"), ("WORLD_SIZE", "many"), ("MASTER_PORT", "70000")])
def test_a_size_or_port_that_is_none_is_refused(name, text):
    with pytest.raises(InputError, match=f"E_GROUP.*{name}"):
        group_of({**WHOLE, name: text})


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize(("rank", "found"), [(0, "1 processes"), (1, "rank 0 does not answer")])
def test_a_peer_that_stays_away_is_said_and_then_given_up(rank, found, capsys):
    begun = time.monotonic()
    with pytest.raises(EnvironmentFailure, match=rf"did not come together.*{found}.*2 processes"):
        meet(Group(rank, 2, rank, "127.0.0.1", free_port()), seconds=1.0)
    assert time.monotonic() - begun < 30
    assert "waiting" in capsys.readouterr().err


def test_a_port_that_another_holds_is_named():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        with pytest.raises(EnvironmentFailure, match=r"cannot meet here.*MASTER_PORT"):
            meet(Group(0, 2, 0, "127.0.0.1", other.getsockname()[1]), seconds=1.0)


def test_two_that_come_at_different_times_meet():
    port, stores = free_port(), {}

    def come(rank):
        stores[rank] = meet(Group(rank, 2, rank, "127.0.0.1", port), seconds=60.0)

    late = threading.Thread(target=come, args=(1,))
    late.start()  # asks before anybody listens
    time.sleep(0.3)
    come(0)
    late.join(60)
    stores[1].set("word", "here")
    assert stores[0].get("word") == b"here"
