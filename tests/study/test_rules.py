import pytest

from setr.errors import InputError
from setr.study.rules import Rule, resolved

RULES = (
    Rule({"base_lr": 0.01, "batch_size": 8}),
    Rule({"base_lr": 0.002}, {"decoder": ("mla", "pup"), "flavour": ("authors",)}),
    Rule({}, {"data": ("moon",)}, "nobody published one"),
)


def test_later_rules_win_where_all_of_their_conditions_fit() -> None:
    assert resolved(RULES, decoder="naive", flavour="authors") == {"base_lr": 0.01, "batch_size": 8}
    assert resolved(RULES, decoder="mla", flavour="authors") == {"base_lr": 0.002, "batch_size": 8}
    assert resolved(RULES, decoder="mla", flavour="paper")["base_lr"] == 0.01


def test_a_rule_may_say_why_there_is_nothing() -> None:
    with pytest.raises(InputError, match="nobody published one"):
        resolved(RULES, data="moon")
