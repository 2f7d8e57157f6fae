"""The house's floors: a file imports only from floors below its own, or from its own room; and nothing runs in a circle."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import cimm_jax

PACKAGE = Path(cimm_jax.__file__).parent
ROOT = PACKAGE.parent

FLOORS = {
    "class_targets": 1,
    "errors": 1,
    "files": 1,
    "interruption": 1,
    "locks": 1,
    "plugins": 1,
    "progress": 1,
    "resuming": 1,
    "tasks": 1,
    "verbosity": 1,
    "numerics": 2,
    "closed_form": 3,
    "measures": 4,
    "data": 4,
    "networks": 5,
    "methods": 6,
    "attacks": 6,
    "runs": 7,
    "views": 8,
    "commands": 9,
    "front": 10,
    "_public": 11,
}
"""The table of CONTRIBUTING.md."""

HEAVY = ("flax", "tensorflow_datasets", "matplotlib", "tyro", "orbax", "grain", "sklearn", "pandas", "jinja2")

MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "cimm_jax.") if not name.endswith("__main__")
)


def room(module: str) -> str:
    return module.split(".")[1]


def same_room(module: str, other: str) -> bool:
    """The files that lie at the top of the package are one room."""
    return room(module) == room(other) or FLOORS[room(module)] == FLOORS[room(other)] == 1


def imports(path: Path) -> dict[str, set[str]]:
    """Modules of the package that a file imports, by "always" (at its top level) and "ever" (anywhere but for types)."""
    found: dict[str, set[str]] = {"always": set(), "ever": set()}
    tree = ast.parse(path.read_text())
    typed = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typed:
            continue
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cimm_jax"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("cimm_jax")]
        for name in names:
            found["ever"].add(name)
            if node in tree.body:
                found["always"].add(name)
    return found


def module_of(name: str) -> str:
    """The module that a dotted name is, or is in."""
    while name not in MODULES and name != "cimm_jax":
        name = name.rpartition(".")[0]
    return name


def path_of(module: str) -> Path:
    base = ROOT / module.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def test_every_room_has_a_floor_and_contributing_says_the_same():
    assert {room(module) for module in MODULES} == set(FLOORS)
    table = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| ")]
    told = {}
    for line in table:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].isdigit():
            for name in cells[1].replace("`", "").split(","):
                told[name.strip().rstrip("/").removesuffix(".py")] = int(cells[0])
    assert told == FLOORS


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_from_floors_below_its_own(module):
    own = room(module)
    for name in imports(path_of(module))["ever"]:
        other = module_of(name)
        if other == "cimm_jax":
            assert module in (f"cimm_jax.commands.{of}" for of in ("cli", "reproduce", "report")), (
                f"{module} imports {name}"
            )
        elif not same_room(module, other):
            assert FLOORS[room(other)] < FLOORS[own], f"{module} imports {other}"


def test_nothing_imports_in_a_circle():
    edges = {module: {module_of(name) for name in imports(path_of(module))["ever"]} - {module} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module in done:
            return
        for other in edges.get(module, ()):
            # A package's own __init__ collects its files; files do not come back for it.
            visit(other, (*way, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", [m for m in MODULES if FLOORS[room(m)] < 5])
def test_heavy_libraries_stay_above(module):
    tree = ast.parse(path_of(module).read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name for name in names if name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_experiments_and_benchmarks_import_no_command(folder):
    for path in (ROOT / folder).glob("*.py"):
        for name in imports(path)["ever"]:
            assert not name.startswith("cimm_jax.commands"), f"{path.name} imports {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if not m.rpartition(".")[2].startswith("_")])
def test_every_public_module_says_what_is_public_and_shadows_no_module(module):
    loaded = importlib.import_module(module)
    if public := [name for name in vars(loaded) if not name.startswith("_") and _is_own(loaded, name)]:
        assert set(public) <= set(loaded.__all__), f"{module} hides {set(public) - set(loaded.__all__)}"
    for name in getattr(loaded, "__all__", ()):
        assert hasattr(loaded, name), f"{module} promises {name}"
        assert name != module.rpartition(".")[2], f"{module} has a name like its own"
        child = f"{module}.{name}"
        if child in MODULES:
            assert getattr(loaded, name) is importlib.import_module(child), f"{child} is hidden by {module}.{name}"


def _is_own(module, name: str) -> bool:
    value = vars(module)[name]
    return getattr(value, "__module__", None) == module.__name__ and callable(value)
