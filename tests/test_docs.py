"""The documents under test: each setting, command, route and link in them stands, and nothing is promised that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
API = (ROOT / "docs/api.md").read_text()


def commands() -> dict[str, Any]:
    """Every command as typed after `kensor` → its options."""
    from typer.main import get_command

    from app.cli import app

    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", None)
        if not children:
            yield path, {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
            return
        for name, child in children.items():
            yield from walk(child, f"{path} {name}".strip())

    return dict(walk(get_command(app), ""))


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    from app.settings import Settings

    settings = {f"KENSOR_{name.upper()}" for name in Settings.model_fields}
    documented = set(re.findall(r"`(KENSOR_[A-Z_]+)`", API))
    assert documented == settings


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    table = API.split("## Command line")[1].split("## Settings")[0]
    for command in commands():
        assert f"`kensor {command}" in table, f"kensor {command} is not in docs/api.md"
    known = commands()
    for found in re.findall(r"`kensor ([a-z-]+(?: [a-z]+)?)", table):
        assert found in known or found.split()[0] in known, f"docs/api.md names kensor {found}, which does not exist"


def test_commands_shown_in_the_readme_exist_with_their_options() -> None:
    known = commands()
    text = (ROOT / "README.md").read_text()
    lines = [line for block in re.findall(r"```(?:console|sh|bash)?\n(.*?)```", text, re.S) for line in block.splitlines()]
    shown = [line for line in lines if re.match(r"\$ (\.venv/bin/)?kensor ", line)]
    assert shown, "the README's tour shows commands"
    for line in shown:
        words = line.split("kensor ", 1)[1].split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert name in known, line
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known[name], line


def test_the_table_of_routes_is_the_service(tmp_path: Path) -> None:
    from app.main import create_app
    from app.settings import Settings

    app = create_app(Settings(data=tmp_path, database_url=None, store_url=None, no_worker=True))
    app.state.context.close()
    names = {"product": "p", "number": "n"}
    served = {
        f"{method.upper()} {re.sub('{([a-z_]+)}', lambda m: '{' + names.get(m[1], 'id') + '}', path)}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]+)`", API, re.M)) == served


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_file_tree_of_the_readme_is_the_repository() -> None:
    tree = re.search(r"## The files\n+```\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert tree, "the README shows the files"
    listed: set[str] = set()
    folders: list[str] = []
    for line in tree[1].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name]
        path = "".join(folders)
        assert (ROOT / path).exists(), f"the README lists {path}"
        listed.add(path)
    for package in ("app", "inspection", "models"):
        for file in (ROOT / package).rglob("*.py"):
            path = file.relative_to(ROOT).as_posix()
            if file.name != "__init__.py":
                assert path in listed, f"the README does not list {path}"
