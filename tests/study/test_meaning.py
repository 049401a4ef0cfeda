# ruff: noqa: E501
"""Pairs of texts: those that compute the same have one meaning, and those that do not have two."""

import ast

import pytest

from setr.study.meaning import definition_text

SAME = {
    "comment": ("x = 1", "x = 1  # one"),
    "docstring": ("def f():\n    return 1", 'def f():\n    """Returns one."""\n    return 1'),
    "format": ("def f(a, b):\n    return a + b", "def f(\n    a,\n    b,\n):\n    return (a\n        + b)"),
    "annotation": ("def f(a, b=1):\n    c = a\n    return c", "def f(a: int, b: float = 1) -> int:\n    c: int = a\n    return c"),
    "error's text": ("def f(a):\n    if a < 0:\n        raise ValueError('no')", "def f(a):\n    if a < 0:\n        raise TypeError(f'bad {a}')"),
    "error's helper": ("def f(a):\n    if a:\n        raise ValueError", "def f(a):\n    if a:\n        raise _bad(a) from None"),
    "error made elsewhere": ("def f(a):\n    return InputError('E_A', f'no {a}')", "def f(a):\n    return InputError('E_B', a.name, where=a)"),
    "declaration": ("def f(a):\n    b = a\n    return b", "def f(a):\n    b: int\n    b = a\n    return b"),
    "local name": ("def f(a):\n    total = a * 2\n    return total + 1", "def f(a):\n    s = a * 2\n    return s + 1"),
    "loop variable": ("def f(a):\n    for i in a:\n        g(i)", "def f(a):\n    for item in a:\n        g(item)"),
    "comprehension": ("def f(a):\n    return [x + 1 for x in a if x]", "def f(a):\n    return [y + 1 for y in a if y]"),
    "nested comprehension": ("def f(a):\n    return {k: [v for v in w] for k, w in a}", "def f(a):\n    return {p: [q for q in r] for p, r in a}"),
    "lambda": ("def f(a):\n    return map(lambda x: x + 1, a)", "def f(a):\n    return map(lambda y: y + 1, a)"),
    "inner function": ("def f(a):\n    def g(x):\n        return x + a\n    return g", "def f(a):\n    def inner(x):\n        return x + a\n    return inner"),
    "caught error": ("def f():\n    try:\n        g()\n    except OSError as e:\n        h(e)", "def f():\n    try:\n        g()\n    except OSError as error:\n        h(error)"),
    "with": ("def f():\n    with g() as a:\n        h(a)", "def f():\n    with g() as b:\n        h(b)"),
    "walrus": ("def f(a):\n    if (n := g(a)):\n        return n", "def f(a):\n    if (m := g(a)):\n        return m"),
    "match": ("def f(a):\n    match a:\n        case [x, *rest]:\n            return x, rest", "def f(a):\n    match a:\n        case [y, *more]:\n            return y, more"),
    "assertion's message": ("def f(a):\n    assert a", "def f(a):\n    assert a, 'must be'"),
    "printed": ("def f(a):\n    return a", "def f(a):\n    print('here')\n    return a"),
    "order of methods": ("class A:\n    def f(self):\n        x = 1\n        return x\n    def g(self):\n        y = 2\n        return y", "class A:\n    def g(self):\n        y = 2\n        return y\n    def f(self):\n        x = 1\n        return x"),
    "import within": ("def f(a):\n    return g(a)", "def f(a):\n    from m import g\n    return g(a)"),
}  # fmt: skip

DIFFERENT = {
    "constant": ("x = 1", "x = 2"),
    "operator": ("def f(a, b):\n    return a + b", "def f(a, b):\n    return a - b"),
    "swapped locals": ("def f(a):\n    x = 1\n    y = 2\n    return x - y", "def f(a):\n    x = 1\n    y = 2\n    return y - x"),
    "condition of an error": ("def f(a):\n    if a < 0:\n        raise ValueError", "def f(a):\n    if a <= 0:\n        raise ValueError"),
    "class of an error": ("def f(a):\n    return InputError(a)", "def f(a):\n    return IntegrityError(a)"),
    "other call": ("def f(a):\n    return Other(a, 1)", "def f(a):\n    return Other(a, 2)"),
    "declared field": ("class A:\n    x: int\n    y: int", "class A:\n    y: int\n    x: int"),
    "asserted": ("def f(a):\n    assert a", "def f(a):\n    assert not a"),
    "global for local": ("def f(a):\n    x = 1\n    return x", "def f(a):\n    x = 1\n    return y"),
    "other global": ("def f(a):\n    return g(a)", "def f(a):\n    return h(a)"),
    "attribute": ("def f(a):\n    return a.x", "def f(a):\n    return a.y"),
    "keyword": ("def f(a):\n    return g(a, x=1)", "def f(a):\n    return g(a, y=1)"),
    "default": ("def f(a=1):\n    return a", "def f(a=2):\n    return a"),
    "parameter's name": ("def f(a, *, b):\n    return b", "def f(a, *, c):\n    return c"),
    "parameters' order": ("def f(a, b):\n    return a - b", "def f(b, a):\n    return a - b"),
    "text": ("def f():\n    return 'a'", "def f():\n    return 'b'"),
    "none and text": ("x = None", "x = 'None'"),
    "order of fields": ("class A:\n    x = 1\n    y = 2", "class A:\n    y = 2\n    x = 1"),
    "base class": ("class A(B):\n    pass", "class A(C):\n    pass"),
    "decorator": ("def f():\n    return 1", "@cache\ndef f():\n    return 1"),
    "order of statements": ("def f(a):\n    g(a)\n    h(a)", "def f(a):\n    h(a)\n    g(a)"),
    "comprehension's source": ("def f(a, b):\n    return [x for x in a]", "def f(a, b):\n    return [x for x in b]"),
    "lambda's body": ("f = lambda x, y: x - y", "f = lambda x, y: y - x"),
    "outer variable of an inner function": ("def f(a):\n    x = 1\n    y = 2\n    def g():\n        return x\n    return g", "def f(a):\n    x = 1\n    y = 2\n    def g():\n        return y\n    return g"),
    "inner variable hides the outer": ("def f(a):\n    x = 1\n    def g():\n        x = 2\n        return x\n    return g() + x", "def f(a):\n    x = 1\n    def g():\n        x = 2\n        return x\n    return g() + g()"),
    "global statement": ("def f():\n    global x\n    x = 1", "def f():\n    x = 1"),
    "negation": ("def f(a):\n    return a", "def f(a):\n    return not a"),
    "slice": ("def f(a):\n    return a[1:]", "def f(a):\n    return a[:1]"),
    "caught": ("def f():\n    try:\n        g()\n    except OSError:\n        h()", "def f():\n    try:\n        g()\n    except ValueError:\n        h()"),
}  # fmt: skip


def meaning(text: str) -> str:
    [node] = ast.parse(text).body
    return definition_text(node, lambda name, attributes: ".".join((name, *attributes)))


@pytest.mark.parametrize("name", SAME)
def test_wording_is_not_in_the_meaning(name: str) -> None:
    before, after = SAME[name]
    assert meaning(before) == meaning(after)


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_computed_is_in_the_meaning(name: str) -> None:
    before, after = DIFFERENT[name]
    assert meaning(before) != meaning(after)


def test_a_records_methods_count_and_its_fields_do_not() -> None:
    def methods(text: str) -> str:
        [node] = ast.parse(text).body
        return definition_text(node, lambda name, attributes: name, values_only=True)

    plain = "class A:\n    x: int = 1\n    def f(self):\n        return self.x"
    assert methods(plain) == methods(plain.replace("x: int = 1", "x: int = 2\n    y: int = 0"))
    assert methods(plain) != methods(plain.replace("return self.x", "return -self.x"))


def test_only_the_chosen_entries_of_a_table_count() -> None:
    def chosen(text: str, keys: str) -> str:
        [node] = ast.parse(text).body
        return definition_text(node, lambda name, attributes: name, chosen=frozenset(keys))

    assert chosen("T = {'a': f, 'b': g}", "a") == chosen("T: dict = {'b': h, 'a': f}", "a")
    assert chosen("T = {'a': f, 'b': g}", "b") != chosen("T = {'a': f, 'b': h}", "b")
