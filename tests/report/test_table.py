import io
import re
from functools import cache

import pytest
from rich.console import Console
from rich.text import Text

from fedsplit.report.rows import Summary
from fedsplit.report.summary import summarise
from fedsplit.report.table import markdown, terminal_table
from tests.report.fixtures import NOTICE, TRIALS, Trial, attacked, joined


@cache
def summary_of(trials: tuple[Trial, ...] = TRIALS, notice: str = NOTICE, seeds: tuple[int, ...] = (0,)) -> Summary:
    pairs = [attacked(trial, seed, 24) for seed in seeds for trial in trials]
    return summarise(joined(*pairs, notice=notice), [exhibit for _, exhibit in pairs])


def printed(summary: Summary, width: int = 140) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(terminal_table(summary))
    return stream.getvalue()


def test_invalid_lines_are_struck_through_with_their_reason_in_markdown() -> None:
    text = markdown(summary_of())
    (line,) = (line for line in text.splitlines() if "~~likelihood~~" in line)
    assert len(re.findall(r"~~[^~]+~~", line)) == 5
    assert "worst of" not in line
    assert "- (1) Invalid: significantly below the mean image: a broken attack" in text


def test_invalid_lines_are_struck_through_in_the_terminal() -> None:
    table = terminal_table(summary_of())
    attacks = [cell for cell in table.columns[2].cells if isinstance(cell, Text)]
    struck = [cell.plain for cell in attacks if "strike" in str(cell.style)]
    assert struck == ["likelihood (1)"]
    assert "(1) invalid: significantly below the mean image" in printed(summary_of())


def test_the_worst_attack_is_named_with_the_number_it_was_chosen_from() -> None:
    text = markdown(summary_of())
    assert text.count("(worst of 3 attacks)") == 4
    assert text.count("(worst of 2 attacks)") == 1
    assert printed(summary_of()).count("worst of 3 attacks") == 4


def test_the_notice_is_in_every_table_and_in_none_without_one() -> None:
    assert NOTICE in markdown(summary_of())
    assert NOTICE in printed(summary_of())
    assert "Data:" not in markdown(summary_of(notice="")) + printed(summary_of(notice=""))


def test_anchors_are_there_and_oracles_say_so() -> None:
    for text in (markdown(summary_of()), printed(summary_of())):
        assert "mean image" in text
        assert "class mean (oracle)" in text
        assert "nearest auxiliary (oracle)" in text


@pytest.mark.parametrize("width", [100, 120, 140])
def test_the_table_fits_and_breaks_no_number(width: int) -> None:
    text = printed(summary_of(), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert text.count("[0.") == text.count("]") - text.count("[1") - text.count("[2")
    for row in summary_of().rows:
        assert row.attack in text


def test_intervals_say_what_they_cover() -> None:
    trials = TRIALS[:2]
    assert "images only" in markdown(summary_of(trials))
    assert "images only" in markdown(summary_of(trials, seeds=(0, 1)))
    three = markdown(summary_of(trials, seeds=(0, 1, 2)))
    assert "images and trainings" in three
    assert "images only" not in three


def test_settings_have_a_column_only_where_rows_differ() -> None:
    header = markdown(summary_of()).splitlines()[4]
    assert "threat" not in header
    assert "leak |" not in header
    rounds = (Trial("none", "a", 0.9, 0.9, round=1), Trial("none", "a", 0.8, 0.9, round=3, threat="eavesdropper"))
    text = markdown(summary_of(rounds))
    assert "| threat | leak |" in text
    assert "inference, round 3" in text


def test_names_are_shown_letter_by_letter_in_markdown() -> None:
    text = markdown(summary_of((Trial("a|b <b>*x*</b>", "[l](http://x)", 0.5, 0.9),)))
    assert r"a\|b \<b\>\*x\*\</b\>" in text
    assert r"[l]\(http://x)" in text
