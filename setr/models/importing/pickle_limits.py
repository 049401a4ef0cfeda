"""What reading a pickle may cost: a file of a few kilobytes can ask for 2^60 steps or for all memory there is.

Pickles copy and hash what they have named before, as often as they like, so their length bounds nothing. Here each
instruction has a price, what it copies is counted, and only what hashes and compares in constant time is a key. The
prices are those of CPython's unpickler in Python and of torch's, which both take the same instructions.
"""

import pickle
from collections.abc import Callable, Iterable
from typing import Any

MAX_PICKLE_BYTES = 256 << 20  # weights stand beside the pickle; a long training's history takes a few megabytes
MAX_PRICE = 10_000_000  # some seconds; a released checkpoint with its optimizer and message hub pays below 1,000,000
MAX_NAME_CHARACTERS = 1024  # of a class's name; of a key four times as many
MAX_DIMENSIONS = 64  # of a tensor, in torch
_CONTAINER_PRICE = 10
_CHARACTERS_PER_UNIT = 64


class CostlyError(pickle.UnpicklingError):
    """The pickle asks for more time or memory than any checkpoint needs; its text says what."""


def require_key(key: object) -> None:
    """Raises CostlyError for a key whose hash or comparison may take long: nested tuples, long numbers and texts."""
    for part in key if isinstance(key, tuple) and len(key) <= MAX_DIMENSIONS else (key,):
        if isinstance(part, (tuple, frozenset)):
            raise CostlyError("a key that is a nested tuple")
        if isinstance(part, (str, bytes)) and len(part) > 4 * MAX_NAME_CHARACTERS:
            raise CostlyError(f"a key of {len(part)} characters")
        if isinstance(part, int) and part.bit_length() > 64:
            raise CostlyError(f"a key of {part.bit_length()} bits")


def require_name(*parts: object) -> None:
    """Raises CostlyError for a name longer than any class or storage has."""
    if any(isinstance(part, str) and len(part) > MAX_NAME_CHARACTERS for part in parts):
        raise CostlyError("the name of a class that is a long text")


def _copied(values: Iterable[object]) -> int:
    """Returns the price of handing these values to a call that copies each of them."""
    price = 0
    for value in values:
        if isinstance(value, (list, tuple, dict, set)):
            price += 1 + len(value)
        elif isinstance(value, (str, bytes, bytearray)):
            price += 1 + len(value) // _CHARACTERS_PER_UNIT
        elif isinstance(value, int):
            price += 1 + value.bit_length() // _CHARACTERS_PER_UNIT
        else:
            price += 1
    return price


class BoundedUnpickler(pickle._Unpickler):
    """An unpickler that stops with CostlyError before its bounds are passed.

    In Python, not in C: there, four bytes that ask for memo entry 4,000,000,000 cost 64 GB.
    """

    price = 0

    def pay(self, price: int) -> None:
        """Adds to what was spent; raises CostlyError where it is too much."""
        self.price += price
        if self.price > MAX_PRICE:
            raise CostlyError(f"a pickle of more than {MAX_PRICE:,} steps")


def _key(unpickler: Any) -> None:
    require_key(unpickler.stack[-2])


def _keys(unpickler: Any) -> None:
    for key in unpickler.stack[::2]:
        require_key(key)


def _members(unpickler: Any) -> None:
    for member in unpickler.stack:
        require_key(member)


def _arguments(unpickler: Any) -> None:
    for given in unpickler.stack[-2:]:
        if isinstance(given, dict):
            given = given.values()
        if isinstance(given, (tuple, list, type({}.values()))):
            unpickler.pay(len(given))
            unpickler.pay(_copied(given))


def _loose_arguments(unpickler: Any) -> None:
    unpickler.pay(_copied(unpickler.stack))


def _state(unpickler: Any) -> None:
    state = unpickler.stack[-1]
    unpickler.pay(_copied([state]) + (_copied(state) if isinstance(state, tuple) and len(state) == 2 else 0))


def _never(unpickler: Any) -> None:
    # CPython reserves and clears as many bytes as it claims before it reads one.
    raise CostlyError("a bytearray, which no checkpoint holds")


_CHECKS: dict[bytes, Callable[[Any], None]] = {
    pickle.SETITEM: _key,
    pickle.SETITEMS: _keys,
    pickle.DICT: _keys,
    pickle.ADDITEMS: _members,
    pickle.FROZENSET: _members,
    pickle.REDUCE: _arguments,
    pickle.NEWOBJ: _arguments,
    pickle.NEWOBJ_EX: _arguments,
    pickle.OBJ: _loose_arguments,
    pickle.INST: _loose_arguments,
    pickle.BUILD: _state,
    pickle.BYTEARRAY8: _never,
}
_MAKE_CONTAINERS = b"".join(
    (
        *(pickle.MARK, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET, pickle.LIST, pickle.DICT, pickle.TUPLE),
        *(pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.FROZENSET, pickle.REDUCE, pickle.NEWOBJ, pickle.OBJ),
        *(pickle.NEWOBJ_EX, pickle.INST, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BUILD, pickle.BINPERSID),
        pickle.PERSID,
    )
)


def _bounded(code: int, run: Callable[[Any], None]) -> Callable[[Any], None]:
    price = _CONTAINER_PRICE if code in _MAKE_CONTAINERS else 1
    check = _CHECKS.get(bytes([code]))

    def instruction(unpickler: Any) -> None:
        unpickler.price += price
        if unpickler.price > MAX_PRICE:
            unpickler.pay(0)
        if check is not None:
            check(unpickler)
        run(unpickler)

    return instruction


BoundedUnpickler.dispatch = {code: _bounded(code, run) for code, run in pickle._Unpickler.dispatch.items()}
