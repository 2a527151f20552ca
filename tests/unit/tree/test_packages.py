"""The tree is what the import contract says: no two packages import each other, and few files stand at the root."""

import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[3]
GRAPH = grimp.build_graph("ktr")
PACKAGES = sorted({"ktr", *(module.rpartition(".")[0] for module in GRAPH.modules if module != "ktr")})


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_rooms_of_a_package_import_each_other_by_any_way(package: str):
    rooms = GRAPH.find_children(package)
    of = {module: room for room in rooms for module in {room} | GRAPH.find_descendants(room)}
    imports: dict[str, set[str]] = {room: set() for room in rooms}
    for importer, room in of.items():
        found = (of.get(imported) for imported in GRAPH.find_modules_directly_imported_by(importer))
        imports[room] |= {other for other in found if other not in (None, room)}
    assert list(TopologicalSorter(imports).static_order()) or not rooms  # CycleError names the circle


def test_the_contract_lists_every_package_once_and_lets_no_siblings_import_each_other():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = contracts[0]["layers"]
    listed = [name for layer in layers for name in layer.split(" | ")]
    assert ":" not in "".join(layers) and len(listed) == len(set(listed))
    assert {f"ktr.{name}" for name in listed} == GRAPH.find_children("ktr")


def test_at_most_nine_files_stand_at_the_root():
    assert len(list((ROOT / "ktr").glob("*.py"))) <= 9


def test_a_file_that_is_two_ideas_is_cut():
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "ktr").rglob("*.py")}
    assert {path.name: length for path, length in lengths.items() if length > 400} == {}
