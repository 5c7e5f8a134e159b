"""What README, docs and configuration say is true today: every path, name, command and snippet in them."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import fedsplit
from fedsplit.catalogue import FAMILIES
from fedsplit.component import Trust, shipped_kinds
from fedsplit.reading import load

ROOT = Path(__file__).parent.parent
TEXTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.yaml"))
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(text: Path, language: str) -> list[str]:
    return [block for found, block in FENCE.findall(text.read_text(encoding="utf-8")) if found == language]


def commands() -> list[str]:
    lines = [line for text in TEXTS for block in blocks(text, "console") for line in block.splitlines()]
    return sorted({line.removeprefix("$ ") for line in lines if line.startswith("$ ")})


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_links_lead_to_files(text: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (text.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_paths_in_code_marks_exist(text: Path) -> None:
    marked = re.findall(
        r"`((?:fedsplit|scenarios|docs|tests|benchmarks|\.ci)/[\w./-]*)`", text.read_text(encoding="utf-8")
    )
    written_by_the_reader = {"fedsplit/defenses/clipped_noise.py"}
    assert not [path for path in marked if path not in written_by_the_reader and not (ROOT / path).exists()]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_snippets_are_valid(text: Path) -> None:
    for snippet in blocks(text, "python"):
        compile(snippet, str(text), "exec")
    for snippet in blocks(text, "yaml"):
        assert isinstance(yaml.safe_load(snippet), dict)
    for snippet in blocks(text, "toml"):
        assert tomllib.loads(snippet)


def test_readme_and_docs_show_the_same_plugin() -> None:
    assert blocks(ROOT / "README.md", "python")[0] == blocks(ROOT / "docs" / "extending.md", "python")[0]


@pytest.mark.parametrize("command", [command for command in commands() if "fedsplit" in command])
def test_commands_run(command: str, tmp_path: Path) -> None:
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    (tmp_path / "clipped_noise.py").write_text(blocks(ROOT / "docs" / "extending.md", "python")[0], encoding="utf-8")
    words = shlex.split(command)
    assert Path(words[0]).name == "fedsplit"
    # Inline, since no test joins a cluster that happens to run on this machine.
    small = ["--smoke", "--set", "engine={kind: inline}"]
    run = [sys.executable, "-c", "from fedsplit.cli import main; main()", *words[1:], *small]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/*/report.html"))


def test_make_knows_every_target_that_is_mentioned() -> None:
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    words = {word for text in TEXTS for word in re.findall(r"`make (\w+)`", text.read_text(encoding="utf-8"))}
    words |= {command.split()[1] for command in commands() if command.startswith("make ")}
    words |= set(re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE))
    assert words and words <= rules


@pytest.mark.parametrize("family", ["defenses", "attacks", "protocols"])
def test_every_member_has_its_heading(family: str) -> None:
    headings = set(
        re.findall(r"^## (\w+)$", (ROOT / "docs" / f"{family}.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(shipped_kinds(family)) <= headings


@pytest.mark.parametrize(
    ("family", "text"), [("datasets", "data.md"), ("threats", "threat-models.md"), ("engines", "protocols.md")]
)
def test_every_member_has_its_line(family: str, text: str) -> None:
    words = (ROOT / "docs" / text).read_text(encoding="utf-8")
    assert not [kind for kind in shipped_kinds(family) if f"`{kind}`" not in words]


def test_public_names_exist() -> None:
    assert all(getattr(fedsplit, name) for name in fedsplit.__all__)
    with pytest.raises(AttributeError):
        _ = fedsplit.no_such_name  # pyright: ignore[reportAttributeAccessIssue]


def test_configuration_names_what_exists() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tools = configuration["tool"]
    paths = [
        *tools["pyright"]["include"],
        *tools["pytest"]["ini_options"]["testpaths"],
        configuration["project"]["readme"],
    ]
    paths += [path.removesuffix("/**") for path in tools["ruff"]["lint"]["per-file-ignores"]]
    assert not [path for path in paths if not any(ROOT.glob(path))]
    modules = {
        module for contract in tools["importlinter"]["contracts"] for module in contract.get("source_modules", [])
    }
    assert not [
        name
        for name in modules
        if not (ROOT / (path := name.replace(".", "/"))).exists() and not (ROOT / f"{path}.py").exists()
    ]


def test_constraints_pin_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+={2,3}[\w.+]+", line)]
    pinned = {re.split("=", line)[0].lower().replace("_", "-") for line in lines}
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra in needed["optional-dependencies"].values() for line in extra]
    names = {re.match(r"[\w-]+", line).group().lower() for line in [*needed["dependencies"], *extras]}  # pyright: ignore
    assert names <= pinned


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenarios_are_valid(path: Path) -> None:
    assert load(path, trust=Trust(plugins=False)).name == path.stem


def test_families_are_listed() -> None:
    folders = {path.parent.name for path in (ROOT / "fedsplit").glob("*/base.py")}
    assert folders == set(FAMILIES)
