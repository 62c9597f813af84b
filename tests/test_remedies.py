"""Every option, command, extra and file that an error, a help text or a document names exists."""

import ast
import dataclasses
import inspect
import re
import tomllib
from pathlib import Path

import pytest

from mixscale.cli import COMMANDS, WITH_CONFIG, command
from mixscale.cli.arguments import _options
from mixscale.config import Ray, Slurm, load
from mixscale.interop.importers import IMPORTERS

ROOT = Path(__file__).parents[1]
OPTION = re.compile(r"(?<![\w-])--([a-z][\w.-]*[\w])")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted((ROOT / "mixscale").rglob("*.py"))
OTHERS = re.compile(
    r"(analysis|scripts)/\w+\.(py|sh)|sbatch|scancel|ray start|tensorboard --|tfds build|zstd|"
    r"XLA_FLAGS|--xla|--blend|--data-"
)
"""Programs that are not ours, in lines whose options are theirs."""
THEIRS = {  # options of the scripts in analysis/, and of this module's subject, in text without the script's name
    "docs/benchmark.md": {"again", "quick", "only", "methods"},
    "docs/performance.md": {"only"},
    "mixscale/cli/arguments.py": {"option", "option.NAME", "no", "FIELD"},
    "mixscale/cli/__init__.py": {"version"},
}


def config_options() -> set[str]:
    experiment = load(str(ROOT / "configs" / "quickstart.py"))
    found = {name.removeprefix("--") for name in _options(experiment)}
    for launcher in (Slurm, Ray):
        found |= {f"launcher.{field.name.replace('_', '-')}" for field in dataclasses.fields(launcher)}
    return found


def command_options(name: str) -> set[str]:
    if name in WITH_CONFIG:
        return config_options()
    functions = IMPORTERS.values() if name == "import" else [command(name)]
    found = {"out"} if name == "import" else set()
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            if dataclasses.is_dataclass(parameter.default):
                found |= {option.removeprefix("--") for option in _options(parameter.default)}
            else:
                found.add(parameter.name.replace("_", "-"))
    return found


ALL = {name: command_options(name) for name in COMMANDS}


def texts(path: Path) -> list[str]:
    """What a person may read: a document, or the strings and comments of a source."""
    if path.suffix == ".md":
        return [path.read_text(encoding="utf-8")]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def known(option: str, options: set[str]) -> bool:
    """Whether an option exists; `--no-flag` and `--constraints.upper.web` do if flag and constraints.upper do."""
    bare = re.sub(r"(^|\.)no-", r"\1", option.rstrip(".").replace("_", "-"))
    return bare in options or any(bare.startswith(f"{o}.") for o in options if "." in bare)


@pytest.mark.parametrize("path", [*DOCUMENTS, *SOURCES], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_option_that_is_named_exists(path):
    options = {"help"}.union(*ALL.values()) | THEIRS.get(str(path.relative_to(ROOT)), set())
    for line in (line for text in texts(path) for line in text.splitlines()):
        if re.fullmatch(r"--\S+", line) or OTHERS.search(line):  # an argument for another program
            continue
        for option in OPTION.findall(line):
            assert known(option, options), f"--{option} in: {line}"


@pytest.mark.parametrize("path", [*DOCUMENTS, *SOURCES], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_is_named_takes_its_options(path):
    for text in texts(path):
        for name, rest in re.findall(r"mixscale ([a-z][a-z-]+)((?: [^`\n]*?)?)(?=`|\n|$)", text):
            for option in OPTION.findall(rest.split("#")[0]) if name in ALL else ():
                assert known(option, ALL[name] | {"help", "FIELD"}), f"{name} --{option}"


def test_every_extra_that_is_named_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in [*DOCUMENTS, *SOURCES]:
        for text in texts(path):
            for named in re.findall(r"mixscale\[([\w,]+)\]|\.\[([\w,]+)\]", text):
                assert set("".join(named).split(",")) <= set(extras), f"{named} in {path}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_file_of_the_project_that_is_named_exists(path):
    text = path.read_text(encoding="utf-8")
    named = re.findall(
        r"(?<![\w/.])((?:mixscale|configs|analysis|scripts|tests|docs)/[\w/.-]*\w\.(?:py|md|sh|png))", text
    )
    linked = [link for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text) if not link.startswith("http")]
    assert not [name for name in named if not (ROOT / name).exists() and name != "configs/mine.py"]
    assert not [link for link in linked if not (path.parent / link).exists()]
