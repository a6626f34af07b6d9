"""README and docs: the README stays short, and all links, files and commands in them exist."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main

from service.cli import build_app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOP_FOLDERS = ("model", "service", "training", "tests", "docs", "deploy", ".ci")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_code(text_of(page)), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_code(page: Path) -> str:
    """The shell commands of a page: `sh` blocks and code inside of lines."""
    text = text_of(page)
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    inline = re.findall(r"`([^`\n]+)`", without_code(text))
    return "\n".join([*blocks, *inline]).replace("\\\n", " ")


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        if re.match(r"https?://", link):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    return broken


def files_named(page: Path) -> set[str]:
    """Paths in the repository that stand in code: `training/recipes/demo.toml`."""
    folders = "|".join(map(re.escape, TOP_FOLDERS))
    named = re.findall(rf"(?<![\w./-])((?:{folders})/[\w./-]*[\w/])", text_of(page))
    return set(named)


def test_the_readme_has_at_most_130_lines() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken_links(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_exist(page: Path) -> None:
    assert not [name for name in files_named(page) if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_exist(page: Path) -> None:
    modules = re.findall(r"python -m ((?:tests|service|training|model)\.[\w.]*\w)", text_of(page))
    assert not [name for name in modules if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    commands = typer.main.get_command(build_app())
    assert isinstance(commands, typer.core.TyperGroup)
    for name, rest in re.findall(
        r"(?<![\w/-])dragoman (?!dragoman\b)([a-z]+)\b([^\n`#|]*)", shell_code(page)
    ):
        command = commands.commands.get(name)
        assert command is not None, f"dragoman {name}"
        if isinstance(command, typer.core.TyperGroup):
            continue
        options = {each for parameter in command.params for each in parameter.opts}
        options |= {each for parameter in command.params for each in parameter.secondary_opts}
        used = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)) - {"--help"}
        assert used <= options, f"dragoman {name}{rest}"


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# The start\n[a](#the-start) [b](other.md) [c](#elsewhere)\n", "utf-8")
    assert broken_links(page) == ["other.md", "#elsewhere"]


def test_the_architecture_names_every_package() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \|", text_of(ROOT / "docs" / "architecture.md"), re.M)
    packages = {
        str(file.parent.relative_to(ROOT))
        for top in ("model", "training", "service")
        for file in ROOT.glob(f"{top}/*/__init__.py")
    }
    assert packages
    assert packages <= set(rows)
