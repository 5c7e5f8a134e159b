"""What docker/ says about the repository is true; whether the images can be built takes Docker and a network."""

import re
import shlex
import subprocess
import tomllib
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from fedsplit.reading import load

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docker"
IMAGES = sorted(FOLDER.glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SCRIPTS = sorted(FOLDER.glob("*.sh"))

each_image = pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)


def instructions(image: Path, name: str) -> list[str]:
    """What follows this word, with continued lines joined."""
    lines = [line for line in image.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [line.partition(" ")[2].strip() for line in joined if line.split(" ")[0] == name]


def installs(text: str) -> list[Namespace]:
    """The arguments of every `pip install`."""
    parser = ArgumentParser(exit_on_error=False)
    for switch in ("--quiet", "--no-cache-dir"):
        parser.add_argument(switch, action="store_true")
    for option in ("--constraint", "--editable"):
        parser.add_argument(option, required=True)
    lines = re.findall(r"pip install (.*)", text)
    return [parser.parse_args(shlex.split(line)) for line in lines]


def extras(install: Namespace) -> set[str]:
    found = re.fullmatch(r"\.\[([\w,]+)\]", install.editable)
    assert found
    return set(found.group(1).split(","))


def words(command: str | list[str]) -> list[str]:
    """Of a service's command, and of the scripts in it."""
    parts = shlex.split(command) if isinstance(command, str) else command
    return [word for part in parts for word in (shlex.split(part) if " " in part else [part])]


def test_there_is_something_to_test() -> None:
    assert [path.stem for path in IMAGES] == ["cpu", "gpu"]
    assert SCRIPTS


@each_image
def test_what_is_copied_is_in_the_repository_and_reaches_the_builder(image: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = [
        source for line in [*instructions(image, "COPY"), *instructions(image, "ADD")] for source in line.split()[:-1]
    ]
    assert copied
    assert not [source for source in copied if not (ROOT / source).exists()]
    assert set(copied) == sent
    project = PROJECT["project"]
    assert {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]} <= sent


@each_image
def test_the_packages_are_those_of_the_makefile(image: Path) -> None:
    (made,) = installs((ROOT / "Makefile").read_text(encoding="utf-8"))
    (built,) = installs("\n".join(instructions(image, "RUN")))
    assert built.constraint == made.constraint
    assert (ROOT / built.constraint).is_file()
    assert extras(built) == extras(made) - {"development"}
    assert extras(made) <= PROJECT["project"]["optional-dependencies"].keys()


@each_image
def test_python_is_the_one_that_the_project_is_written_for(image: Path) -> None:
    text = "\n".join(line for name in ("FROM", "RUN") for line in instructions(image, name))
    versions = set(re.findall(r"python:?(\d+\.\d+)", text))
    assert versions == {PROJECT["tool"]["pyright"]["pythonVersion"]}
    assert versions.pop() in SpecifierSet(PROJECT["project"]["requires-python"])


@each_image
def test_images_report_nothing_and_run_as_an_ordinary_user(image: Path) -> None:
    environment = dict(word.split("=", 1) for line in instructions(image, "ENV") for word in shlex.split(line))
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    (user,) = instructions(image, "USER")
    assert any(f"useradd --create-home --uid 1000 {user}" in line for line in instructions(image, "RUN"))


@each_image
def test_base_images_are_public(image: Path) -> None:
    (base,) = instructions(image, "FROM")
    first, slash, _ = base.partition("/")
    assert not slash or not re.search(r"[.:]|localhost", first), "a registry's host"


def test_services_are_built_from_images_that_are_there_and_wait_for_each_other() -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    for service in SERVICES.values():
        context = (FOLDER / service["build"]["context"]).resolve()
        assert context == ROOT
        assert context / service["build"]["dockerfile"] in IMAGES
        assert service["shm_size"]
        assert set(service.get("depends_on", {})) <= SERVICES.keys()
        assert all("healthcheck" in SERVICES[name] for name in service.get("depends_on", {}))
    mounted = {line.split(":/")[0] for service in SERVICES.values() for line in service.get("volumes", [])}
    assert {re.sub(r"\$\{\w+:-(\w+)\}", r"\1", source) for source in mounted} == COMPOSE["volumes"].keys()


def test_volumes_are_mounted_where_the_user_may_write() -> None:
    targets = {line.rpartition(":")[2] for service in SERVICES.values() for line in service.get("volumes", [])}
    for image in IMAGES:
        (home,) = instructions(image, "WORKDIR")
        (owned,) = re.findall(r"chown \w+:\w+ (.*)", "\n".join(instructions(image, "RUN")))
        assert targets == {str(Path(home, folder)) for folder in owned.split()}


def test_the_scenario_of_the_cluster_is_valid() -> None:
    told = words(SERVICES["simulate"]["command"])
    start = told.index("fedsplit")
    command, path, *options = told[start + 1 :]
    assert command == "simulate"
    assert set(options[::2]) == {"--set"}
    assert load(ROOT / path, assignments=options[1::2]).engine.model_dump()["address"] == "auto"


def test_all_nodes_join_the_head() -> None:
    head = words(SERVICES["head"]["command"])
    port = next(word.removeprefix("--port=") for word in head if word.startswith("--port="))
    joining = [word for service in SERVICES.values() for word in words(service["command"]) if "--address=" in word]
    texts = [script.read_text(encoding="utf-8") for script in SCRIPTS]
    joining += [word for text in texts for word in re.findall(r"--address=\S+", text)]
    assert len(joining) >= 3
    assert set(joining) == {f"--address=head:{port}"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid(script: Path) -> None:
    assert script.stat().st_mode & 0o100, "not executable"
    checked = [["bash", "-n", str(script)]]
    text = script.read_text(encoding="utf-8")
    checked += [["bash", "-n", "-c", inner] for inner in re.findall(r"bash -c '([^']*)'", text)]
    for command in checked:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert set(re.findall(r"docker compose run --rm (\S+)", text)) <= SERVICES.keys()
    assert all((ROOT / path).exists() for path in re.findall(r"scenarios/[\w./-]+", text))
