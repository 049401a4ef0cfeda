"""Makespans that can be checked by hand."""

import math

import pytest

from setr.planning.schedule import Piece, list_schedule, longest_first, table_ends


def test_equal_pieces_take_rounds() -> None:
    pieces = [Piece(str(number), 10.0) for number in range(7)]
    assert max(list_schedule(pieces, 3).values()) == math.ceil(7 / 3) * 10


def test_a_known_schedule() -> None:
    pieces = [Piece("a", 5), Piece("b", 4), Piece("c", 3), Piece("d", 3), Piece("e", 3)]
    assert list_schedule(pieces, 2) == {"a": 5, "b": 4, "c": 7, "d": 8, "e": 10}


def test_wide_pieces_wait_for_room_and_narrow_ones_go_around_them() -> None:
    pieces = [Piece("wide", 4, width=2), Piece("first", 6), Piece("second", 2, width=2), Piece("small", 1)]
    assert list_schedule(pieces, 3) == {"wide": 4, "first": 6, "second": 6, "small": 7}


def test_a_piece_wider_than_everything_takes_everything() -> None:
    assert list_schedule([Piece("a", 4, width=8), Piece("b", 1)], 2) == {"a": 4, "b": 5}


def test_what_runs_already_keeps_its_end() -> None:
    pieces = [Piece("running", 0, ends_at=7.0), Piece("a", 3), Piece("b", 3)]
    assert list_schedule(pieces, 2) == {"running": 7, "a": 3, "b": 6}


def test_a_table_ends_with_its_last_piece() -> None:
    pieces = longest_first([Piece("a", 1, tables=(2,)), Piece("b", 5, tables=(2, 6)), Piece("c", 2, width=2)])
    assert [piece.name for piece in pieces] == ["c", "b", "a"]
    ends = list_schedule(pieces, 2)
    assert table_ends(pieces, ends) == {2: pytest.approx(7), 6: pytest.approx(7)}
