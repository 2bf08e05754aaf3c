"""Where things live and which way imports point (docs/architecture.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("headforcing_core", "nodes")
CORE_FLOORS = (
    ("report", "farm"),
    ("run_store", "heads", "drift", "cards"),
    ("rollout",),
    ("policy", "checkpoint", "schedule"),
    ("families",),
    ("kv_memory", "files", "geometry", "ray_needed"),
)
NODES_FLOORS = (
    ("__init__",),
    ("web_api",),
    (
        *("load_ar_model", "prompt_schedule", "profile_heads", "load_head_profile", "head_cache_policy"),
        *("head_forced_sampler", "drift_report", "spread_over_cards"),
    ),
    ("sampler_schema",),
    ("inputs", "input_checks"),
    ("run",),
    ("strip",),
    ("keeping", "cards"),
    ("request",),
    ("profiles",),
    ("video",),
    ("host",),
    ("status", "sockets"),
)
FARM_READS = ("files", "ray_needed")  # it runs beside ComfyUI, not in it
MUST_NOT_READ = {
    "headforcing_core.run_store": ("headforcing_core.heads", "headforcing_core.kv_memory"),
    "headforcing_core.policy": ("torch",),
    "headforcing_core.kv_memory": ("headforcing_core.policy",),
    "headforcing_core.farm": (
        "torch",
        *(f"headforcing_core.{room}" for floor in CORE_FLOORS[1:] for room in floor if room not in FARM_READS),
    ),
    "nodes": ("headforcing_core.farm",),
    "headforcing_core": ("nodes", "comfy", "comfy_api", "comfy_execution", "folder_paths", "server"),
}
HOST_INSIDES = ("comfy.ldm", "comfy.sd", "comfy.samplers", "comfy.taesd", "comfy.patcher_extension")
MOST_LINES = {"headforcing_core": 250, "nodes": 250, "benchmarks": 300, "testbed": 300}
MOST_PARAMETERS = 6


def files(*folders: str) -> list[Path]:
    """Every Python file of these folders and those below, a room's `__init__.py` apart."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]
    assert len(found) > 20 * len(folders) / 2
    return [*found, ROOT / "nodes" / "__init__.py"] if "nodes" in folders else found


def name_of(path: Path) -> str:
    """Dotted name of a file's module."""
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


def modules() -> dict[str, Path]:
    """The product's files by dotted name."""
    return {name_of(path): path for path in files(*PRODUCT)}


def imports(path: Path, at_run_time: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; without those that only a type checker sees, if asked for at run time."""
    package = (name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]).split(".")
    tree = ast.parse(path.read_text(encoding="ascii"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if at_run_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{each.name}" for each in node.names)


def read_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """The product's modules that a file imports."""
    names = {name for found in imports(path) for name in (found, found.rpartition(".")[0]) if name in known}
    return names - {name_of(path), "nodes"}


def is_below(name: str, place: str) -> bool:
    """Whether a dotted name is a place or lies in it."""
    return name == place or name.startswith(place + ".")


def floor_of(name: str) -> int:
    """The floor of a module, the top one 0."""
    top, _, rest = name.partition(".")
    floors = CORE_FLOORS if top == "headforcing_core" else NODES_FLOORS
    room = rest.partition(".")[0] or "__init__"
    return next(number for number, rooms in enumerate(floors) if room in rooms)


def test_a_room_reads_lower_floors_and_itself() -> None:
    known = modules()
    wrong = [
        f"{name} reads {read}"
        for name, path in known.items()
        for read in read_modules(path, known)
        if name.split(".")[0] == read.split(".")[0]
        and name.split(".")[:2] != read.split(".")[:2]
        and floor_of(read) <= floor_of(name)
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_no_imports_go_in_a_circle() -> None:
    known = modules()
    left = {name: read_modules(path, known) for name, path in known.items()}
    while free := [name for name, reads in left.items() if not reads & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"these read each other: {sorted(left)}"


def test_what_a_room_must_not_read() -> None:
    wrong = [
        f"{name} reads {found}"
        for name, path in modules().items()
        for room, banned in MUST_NOT_READ.items()
        if is_below(name, room)
        for found in imports(path)
        if any(is_below(found, each) for each in banned)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_host_room_knows_the_insides_of_the_host() -> None:
    wrong = [
        f"{name} reads {found}"
        for name, path in modules().items()
        if not is_below(name, "nodes.host")
        for found in imports(path, at_run_time=True)
        if any(is_below(found, each) for each in HOST_INSIDES)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_two_files_have_one_name_and_rooms_begin_empty() -> None:
    names = [path.name for path in files(*PRODUCT) if path.name != "__init__.py"]
    assert not sorted({name for name in names if names.count(name) > 1})
    full = [path for folder in PRODUCT for path in (ROOT / folder).rglob("__init__.py") if path.read_text().strip()]
    assert full == [ROOT / "nodes" / "__init__.py"] or [path.parent.name for path in full] == [
        "headforcing_core",
        "nodes",
    ]


def test_files_and_argument_lists_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for folder, most in MOST_LINES.items()
        for path in files(folder)
        if (lines := len(path.read_text(encoding="ascii").splitlines())) > most
    ]
    wide = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {count} parameters"
        for path in files(*PRODUCT)
        for node in ast.walk(ast.parse(path.read_text(encoding="ascii")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name != "execute"
        and (count := _parameters(node.args)) > MOST_PARAMETERS
    ]
    assert not long + wide, "\n".join(long + wide)


def _parameters(given: ast.arguments) -> int:
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return sum(each.arg not in ("self", "cls") for each in named) + bool(given.vararg) + bool(given.kwarg)


def test_modules_that_are_named_by_a_string_are_there() -> None:
    """As benchmarks and host tests name them, where no import would fail."""
    known, found = modules(), []
    for path in [each for folder in ("benchmarks", "tests") for each in (ROOT / folder).rglob("*.py")]:
        text = path.read_text(encoding="ascii")
        found += [(path.name, f"nodes.{name}") for name in re.findall(r'pack_module\("([\w.]+)"\)', text)]
        found += [(path.name, name) for name in re.findall(r'module\("((?:nodes|headforcing_core)\.[\w.]+)"\)', text)]
    assert len(found) > 20 and not [each for each in found if each[1] not in known]
