"""The README tells the truth about what is where."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_tree_names_every_module() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").rpartition("\nmodel/ ")[2]
    named = set(tree.replace("\n", " ").split())
    modules = [
        path
        for package in ("model", "training", "service")
        for path in (ROOT / package).glob("*.py")
        if path.name != "__init__.py"
    ]
    assert modules
    assert not [path.name for path in modules if path.name not in named]
