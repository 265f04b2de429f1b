"""The imports of the package, as a graph of its modules and of its rooms.

    python -m tests.support.imports [FOLDER]

draws the rooms of a checkout, floor by floor, with what each imports, and counts rooms, floors,
arrows and circles. A room is a module or a package that lies in the root of the package.
"""

import ast
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = Mapping[str, set[str]]

ROOT = Path(__file__).parents[2]
NAME = "psvae_tune"


def list_imports(path: Path) -> set[str]:
    """Return every module that a file may import, wherever in the file the import stands.

    ``from a import b`` counts as ``a`` and as ``a.b``, because ``b`` may be a module.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def read_modules(root: Path = ROOT) -> dict[str, set[str]]:
    """Return the modules of the package that each of its modules imports."""
    files = {}
    for path in sorted((root / NAME).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in files.items():
        # The public names of the package itself are imported when they are used.
        found = set() if module == NAME else list_imports(path) & files.keys()
        # A package is imported with every module of it; only the module was asked for.
        packages = {name.rpartition(".")[0] for name in found}
        graph[module] = found - packages - {module}
    return graph


def room_of(module: str) -> str:
    """Return the room of a module; that of the package itself is ``__init__``."""
    return [*module.split("."), "__init__"][1]


def to_rooms(modules: Graph) -> dict[str, set[str]]:
    """Return the rooms that each room imports."""
    rooms: dict[str, set[str]] = {room_of(module): set() for module in modules}
    for module, imported in modules.items():
        rooms[room_of(module)] |= {room_of(other) for other in imported} - {room_of(module)}
    return rooms


def find_circle(graph: Graph) -> list[str]:
    """Return the nodes of one circle of imports, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def to_floors(rooms: Graph) -> list[list[str]]:
    """Return rooms in floors: each room imports from floors below its own only."""
    sorter = TopologicalSorter(rooms)
    sorter.prepare()
    floors = []
    while ready := sorter.get_ready():
        floors.append(sorted(ready))
        sorter.done(*ready)
    return floors


def draw(root: Path) -> str:
    """Return the drawing of a checkout's rooms."""
    modules = read_modules(root)
    rooms = to_rooms(modules)
    circle = find_circle(modules)
    lines = []
    if room_circle := find_circle(rooms):
        lines.append(f"circle of rooms: {' → '.join(room_circle)}")
        floors = []
    else:
        floors = to_floors(rooms)
    for number, floor in enumerate(floors):
        for room in floor:
            n_files = sum(room_of(module) == room for module in modules)
            imported = ", ".join(sorted(rooms[room])) or "–"
            lines.append(f"{number:>3}  {room:<20} {n_files:>3} files  imports {imported}")
    n_arrows = sum(map(len, rooms.values()))
    lines.append(
        f"{len(rooms)} rooms, {len(floors)} floors, {n_arrows} arrows; circle of modules: "
        + (" → ".join(circle) or "none")
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
