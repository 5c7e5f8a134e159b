import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedsplit.errors import DataError
from fedsplit.report.folder import OUTCOMES, RunFolder, cell_files, read_outcomes
from fedsplit.report.page import FIGURES, TABLE, write_report
from tests.report.fixtures import NOTICE, TRIALS, Trial, attacked, joined, write_run


class Page(HTMLParser):
    """Collects what a browser would: tags with their attributes, text by the tags around it."""

    void = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.struck: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, f"{tag} closes what it did not open"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "s" in self.stack:
            self.struck.append(data.strip())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_run(tmp_path_factory.mktemp("run"), (*TRIALS[:3], *TRIALS[6:9]), seeds=(0,), targets=16)
    write_report(root)
    return root


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "report.html").read_text()


def test_everything_is_written(root: Path) -> None:
    assert len(read_outcomes(root / OUTCOMES).outcomes) == 6
    assert NOTICE in (root / TABLE).read_text()
    assert len(list((root / FIGURES).glob("gallery-*.png"))) == 6
    assert len(list((root / FIGURES).glob("*.png"))) == 6 + 4


def test_the_page_needs_nothing_else(text: str) -> None:
    page = Page(text)
    assert not page.stack
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "poster", "action"):
            address = attributes.get(name) or ""
            assert not address or address.startswith(("data:image/png;base64,", "#"))
    assert not re.search(r"url\(|@import", text)


def test_every_link_inside_the_page_has_its_aim(text: str) -> None:
    tags = Page(text).tags
    aims = {attributes.get("id") for _, attributes in tags}
    links = [address for tag, attributes in tags if tag == "a" and (address := attributes.get("href"))]
    assert links
    assert {link.removeprefix("#") for link in links} <= aims


def test_invalid_scores_are_struck_through_with_the_reason(text: str) -> None:
    page = Page(text)
    assert "likelihood" in page.struck
    assert not any("inverse_network" in struck for struck in page.struck)
    assert "Invalid: significantly below the mean image: a broken attack" in " ".join(page.words)


def test_notice_controls_scenario_card_and_versions_are_shown(text: str) -> None:
    words = " ".join(Page(text).words)
    assert f"Data: {NOTICE}" in " ".join(words.split())
    for expected in (
        "permuted leak",
        "stand_in: phantoms",
        "curious_server  sees",
        "2.13.0",
        "images only",
        "worst of 3",
        "training, s",
        "30.9",
    ):
        assert expected in words
    assert "Unfinished" not in words


def test_names_from_outside_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script><img src=http://x>'
    pair = attacked(Trial(evil, evil, 0.9, 0.9, threat=evil), 0, 9)
    cell = RunFolder(tmp_path).cell("0")
    cell.keep(cell_files(joined(pair, notice=evil, scenario=evil), [pair[1]]))
    (cell.path / "scenario.yaml").write_text(evil)
    (tmp_path / "card.txt").write_text(evil)
    text = write_report(tmp_path).read_text()
    assert "<script" not in text
    assert {tag for tag, _ in Page(text).tags} & {"script"} == set()
    assert all((a.get("src") or "data:").startswith("data:") for _, a in Page(text).tags)
    assert "&lt;script&gt;" in text


def test_a_run_of_one_broken_attack_says_that_nothing_is_known(tmp_path: Path) -> None:
    write_run(tmp_path, (Trial("none", "a", 0.1, 0.9, reason="does not beat the mean image"),), seeds=(0,), targets=9)
    assert "nothing is known about this defense" in write_report(tmp_path).read_text()


def test_an_unfinished_cell_is_told(tmp_path: Path) -> None:
    write_run(tmp_path, TRIALS[:1], seeds=(0, 1), targets=9)
    (RunFolder(tmp_path).cells()[1].path / OUTCOMES).unlink()
    assert "1 cell of this run" in " ".join(write_report(tmp_path).read_text().split())


def test_several_threats_each_have_their_section(tmp_path: Path) -> None:
    trials = tuple(Trial("none", "a", 0.9, 0.9, threat=threat) for threat in ("eavesdropper", "curious_server"))
    write_run(tmp_path, trials, seeds=(0,), targets=9)
    words = " ".join(Page(write_report(tmp_path).read_text()).words)
    assert "Threat: eavesdropper" in words
    assert "Threat: curious_server" in words


def test_what_was_swept_is_compared_at_the_same_cost(tmp_path: Path) -> None:
    write_run(tmp_path, (TRIALS[0], TRIALS[4], TRIALS[7]), seeds=(0,), targets=9)
    words = " ".join(Page(write_report(tmp_path).read_text()).words)
    assert "At the same cost: ssim" in words
    assert "at std 0.25" in words and "at std 1" in words


def test_a_broken_cell_is_a_data_error(tmp_path: Path) -> None:
    write_run(tmp_path, TRIALS[:1], seeds=(0,), targets=9)
    (RunFolder(tmp_path).cells()[0].path / OUTCOMES).write_text("{")
    with pytest.raises(DataError):
        write_report(tmp_path)
