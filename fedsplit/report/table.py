"""The table for the terminal and for Markdown. Invalid scores are struck through, with the reason, and never ranked."""

import re
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

from fedsplit.report import wording
from fedsplit.report.grid import Grid, Line, Measured, grid
from fedsplit.report.matched import DROPS, matched_lines
from fedsplit.report.rows import Summary

_SPECIAL = re.compile(r"[\\`*{}<>|~#&]|(?<!\w)_|_(?!\w)|(?<=\])[(\[:]")
"""What Markdown would not show letter by letter; an underscore inside a word is one."""


def terminal_table(summary: Summary) -> Table:
    """For a terminal of 100 columns or more."""
    drawn = grid(summary)
    table = Table(
        title=_title(drawn),
        caption=_caption(drawn),
        title_justify="left",
        caption_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for header, justify, width in zip(drawn.headers, _justified(drawn), _least_widths(drawn), strict=True):
        table.add_column(Text(header), justify=justify, min_width=width, overflow="fold")
    for line, following in zip(drawn.lines, (*drawn.lines[1:], None), strict=True):
        table.add_row(*_terminal_line(line), end_section=following is None or bool(following.defense))
    for line in drawn.anchors:
        table.add_row(*_terminal_line(line), style="dim")
    return table


def markdown(summary: Summary) -> str:
    """A GitHub-flavoured table with its remarks."""
    drawn = grid(summary)
    rule = [":---" if justify == "left" else "---:" for justify in _justified(drawn)]
    lines = [_markdown_line(line) for line in (*drawn.lines, *drawn.anchors)]
    table = [[_plain(header) for header in drawn.headers], rule, *lines]
    parts = [
        f"**{_plain(drawn.title)}**",
        f"> **Data:** {_plain(drawn.notice)}" if drawn.notice else "",
        "\n".join(f"| {' | '.join(cells)} |" for cells in table),
        " ".join(_plain(remark) for remark in drawn.remarks),
        "\n".join(f"- {_plain(words)}" for words in drawn.privacy),
        "\n".join(f"- ({line.number}) Invalid: {_plain(line.reason)}" for line in drawn.lines if line.reason),
        markdown_matched(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_matched(summary: Summary) -> str:
    """Of each threat a table of what is left of the leak at the same cost, then how; empty where nothing was swept."""
    parts: list[str] = []
    for threat in summary.threats:
        alone = summary.alone(threat)
        lines = matched_lines(alone, threat)
        if not lines:
            continue
        headers = ("defense", *(wording.matched_header(drop) for drop in DROPS), "costs, points")
        rule = (":---", *("---:" for _ in DROPS), ":---")
        cells = [
            (_plain(line.name), *(_plain_score(score) for score in line.leaks), _plain(line.cost)) for line in lines
        ]
        parts += [
            f"**At the same cost, {_plain(alone.headline)} under {_plain(threat)}**",
            "\n".join(f"| {' | '.join(row)} |" for row in (headers, rule, *cells)),
        ]
    return "\n\n".join([*parts, wording.MATCHED]) if parts else ""


def _justified(drawn: Grid) -> list[Literal["left", "right"]]:
    return ["left", "right", "left", *("left" for _ in drawn.settings), *("right" for _ in drawn.scores)]


def _least_widths(drawn: Grid) -> list[int]:
    """Names may be folded in a narrow terminal, numbers may not."""
    utility = max(len(line.utility) for line in drawn.lines)
    columns = zip(*(line.scores for line in drawn.lines), strict=True)
    scores = (max(max(len(score.text), len(_compact(score.interval))) for score in column) for column in columns)
    attack = min(max(len(line.attack) for line in drawn.lines), 24)
    return [8, utility, attack, *(6 for _ in drawn.settings), *scores]


def _compact(interval: str) -> str:
    """Without the space inside, a line breaks before an interval and never within it."""
    return interval.replace(", ", ",")


def _title(drawn: Grid) -> Text:
    title = Text(drawn.title, style="bold not italic")
    if drawn.notice:
        title.append(f"\nData: {drawn.notice}", style="bold yellow")
    return title


def _caption(drawn: Grid) -> Text:
    caption = Text(" ".join(drawn.remarks), style="dim not italic")
    for words in drawn.privacy:
        caption.append(f"\n{words}", style="not dim")
    for line in drawn.lines:
        if line.reason:
            caption.append(f"\n({line.number}) invalid: {line.reason}", style="not dim red")
    return caption


def _terminal_line(line: Line) -> list[Text]:
    style = "strike dim" if line.reason else "bold" if line.mark else ""
    attack = Text(line.attack, style=style)
    if line.mark:
        attack.append(f"\n◂ {line.mark}", style="not bold")
    if line.reason:
        attack.append(f" ({line.number})", style="not strike not dim red")
    settings = (Text(setting, style="dim" if line.reason else "") for setting in line.settings)
    scores = (_terminal_score(score, style) for score in line.scores)
    return [Text(line.defense, style="bold"), Text(line.utility), attack, *settings, *scores]


def _terminal_score(score: Measured, style: str) -> Text:
    text = Text(score.text, style=style)
    if score.interval:
        text.append(f" {_compact(score.interval)}", style="not bold dim")
    return text


def _markdown_line(line: Line) -> list[str]:
    around = "~~" if line.reason else "**" if line.mark else ""
    note = f" ({line.number})" if line.reason else f" ({line.mark})" if line.mark else ""
    scores = (_plain_score(score) for score in line.scores)
    return [
        _plain(line.defense),
        line.utility,
        f"{around}{_plain(line.attack)}{around}{note}",
        *(_plain(setting) for setting in line.settings),
        *(f"{around}{score}{around}" if score else "" for score in scores),
    ]


def _plain_score(score: Measured) -> str:
    return f"{score.text} {score.interval}".strip()


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
