"""The code that an experiment runs through, sliced out definition by definition, and its hash.

A slice begins at the definitions that compute (TRAINING, SCORING) and follows every name they use, and the classes in
their annotations, through the project's own modules. What is not reached does not count: another decoder, another
reader, a new row of a table. Nor does wording (setr.study.meaning), nor the module in which a definition stands. Files
are parsed, not imported.
"""

import ast
import functools
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from setr.errors import InputError, syntax_failure
from setr.models.own_source import split_source
from setr.study.meaning import annotated_names, definition_text, is_wording

_PACKAGE = Path(__file__).resolve().parent.parent

Modules = Mapping[str, Mapping[str, str]]  # {file: {definition: hash}}
Place = tuple[str, str]  # a module's dotted name, and that of a definition in it

# Where a training's numbers come from: its start, and all that happens in a step.
TRAINING = ("setr.training.computation:Computation", "setr.models.segmenter:seeded_segmenter")
# What a model with heads of a user's own begins with besides.
OWN = ("setr.models.segmenter:seeded_own_segmenter", "setr.models.own_head:OwnHeadSpec")
# Where a score comes from.
SCORING = ("setr.evaluation.evaluate:evaluate",)
# Where the tensors that a model starts from come from: part of no code hash, as the tensors' own hash is in the spec.
LOADING = ("setr.models.weights:published_values",)

# Modules of which nothing counts: what they decide enters as values (settings, manifest, hashes), or it is about
# telling and keeping, not computing.
NOT_FOLLOWED = (
    "setr.data.locations",
    "setr.data.manifest",
    "setr.data.shard_writer",
    "setr.errors",
    "setr.files.atomic",
    "setr.files.signed_json",
    "setr.models.flavours",
    "setr.models.own_code",
    "setr.record.checkpoint",
    "setr.record.checkpoint_names",
    "setr.record.claims",
    "setr.record.events",
    "setr.record.lease",
    "setr.record.trace",
    "setr.reporting",
    "setr.settings.choices",
    "setr.settings.config",
    "setr.study",
    "setr.training.resume",
    "setr.training.watchdog",
)
# Records that enter the spec by their values: of these classes the methods count, not the fields and their defaults.
RECORDS = ("setr.models.decoders", "setr.models.own_head", "setr.models.specification", "setr.settings.run")
# Tables of which an experiment uses the entries that its structure names.
CHOSEN_TABLES = ("setr.models.segmenter:ENCODERS", "setr.models.segmenter:STEMS")
# Where the records of decoders stand that a structure names: what these build is used, and no other decoder.
DECODERS = "setr.models.decoders"


@dataclass(frozen=True)
class Slice:
    """The definitions reached from some roots: their hashes, and one hash over them all."""

    definitions: Mapping[Place, str]  # (module, name) -> SHA-256 of what it computes

    @functools.cached_property
    def sha256(self) -> str:
        """Returns one hash over all definitions; in which modules they stand is not in it."""
        lines = sorted(f"{name} {digest}" for (_, name), digest in self.definitions.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @functools.cached_property
    def modules(self) -> dict[str, dict[str, str]]:
        """Returns {file: {definition: start of its hash}}, so that a difference can be named."""
        groups: dict[str, dict[str, str]] = defaultdict(dict)
        for (module, name), digest in sorted(self.definitions.items()):
            groups[_file_name(module)][name] = digest[:10]
        return dict(groups)


def training_code(structure: Iterable[str], own: Mapping[str, str] | None = None) -> Slice:
    """Returns the code that a training runs through; `structure` names the records that its model is made of.

    `own` are the texts of the user's own files by source (`mine.py:Name`): what their classes reach is part of it.
    Raises InputError (E_OWN_CODE) for two texts of one file.
    """
    if not own:
        return code_slice(TRAINING, frozenset(structure))
    texts: dict[str, str] = {}
    for source, text in own.items():
        if texts.setdefault(_own_module(source), text) != text:
            raise InputError("E_OWN_CODE", "two texts of one file", where=source, remedy="name both classes in one")
    roots = [":".join((_own_module(source), split_source(source)[1])) for source in own]
    return _sliced(
        tuple(sorted({*TRAINING, *OWN, *roots})), frozenset(structure), _PACKAGE, tuple(sorted(texts.items()))
    )


def _own_module(source: str) -> str:
    """Returns the dotted name that a user's own module has in a slice."""
    return split_source(source)[0].removesuffix(".py")


def _file_name(module: str) -> str:
    """Returns the file that a module's dotted name stands for."""
    return module.replace(".", "/") + ".py"


def scoring_code() -> str:
    """Returns the hash of the code that scores a checkpoint."""
    return code_slice(SCORING).sha256


def loading_code() -> str:
    """Returns the hash of the code that reads published weights into a model."""
    return code_slice(LOADING).sha256


def differing_modules(before: Modules, after: Modules) -> list[str]:
    """Returns what differs between two slices (Slice.modules), as `file (definition, ...)`."""
    found = []
    for file in sorted(before.keys() | after.keys()):
        old, new = before.get(file, {}), after.get(file, {})
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        if names:
            found.append(f"{file} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    return found


def code_slice(roots: Iterable[str], chosen: frozenset[str] = frozenset(), package: Path | None = None) -> Slice:
    """Returns the slice that begins at `roots`, each `module:definition`; `chosen` are keys of CHOSEN_TABLES.

    Raises InputError for a root that does not exist, and for a file that is no Python (E_CODE_SYNTAX).
    """
    return _sliced(tuple(sorted(set(roots))), chosen, package or _PACKAGE, ())


def forget() -> None:
    """Forgets what was read of the files: they are read again."""
    for cache in (_sliced, _definition, _module, _own):
        cache.cache_clear()


@functools.lru_cache(maxsize=64)
def _sliced(roots: tuple[str, ...], chosen: frozenset[str], package: Path, texts: tuple[tuple[str, str], ...]) -> Slice:
    own = {name: _own(name, text) for name, text in texts}  # modules that no file of the package holds
    waiting: list[Place] = [(name, _Module.EFFECTS) for name in own if _Module.EFFECTS in own[name].definitions]
    for root in roots:
        name, _, definition = root.partition(":")
        module = own.get(name) or _module(name, package)
        if module is None or definition not in module.definitions:
            raise InputError("E_MODULE", "no such code to hash", where=root, expected=f"a definition under {package}")
        waiting.append((name, definition))
    waiting.extend(_records(chosen, package))
    reached: dict[Place, _Definition] = {}
    while waiting:
        place = waiting.pop()
        if place not in reached:
            table = ":".join(place) in CHOSEN_TABLES
            reached[place] = (
                _Definition(own[place[0]], place[1], None, package)
                if place[0] in own
                else _definition(place, chosen if table else None, package)
            )
            waiting.extend(reached[place].uses)
    twice = {name for name, count in Counter(name for _, name in reached).items() if count > 1}
    return Slice({place: reached[place].digest(twice) for place in sorted(reached)})


def _records(kinds: frozenset[str], package: Path) -> Iterator[Place]:
    """Yields the records of decoders that are of these kinds."""
    for file in sorted(package.joinpath(*DECODERS.split(".")[1:]).glob("*.py")):
        name = f"{DECODERS}.{file.stem}"
        module = _module(name, package)
        yield from ((name, kind) for kind in sorted(kinds) if module is not None and kind in module.definitions)


class _Module:
    """A parsed module: its definitions by name, its imports, and the statements that run when it is imported."""

    EFFECTS = "<module>"

    def __init__(self, name: str, file: Path, text: str) -> None:
        self.name = name
        try:
            tree = ast.parse(text, filename=str(file))
        except SyntaxError as error:
            raise syntax_failure(error) from None
        self.definitions: dict[str, list[ast.stmt]] = defaultdict(list)
        self.imports: dict[str, str] = {}  # local name -> module, or module.name
        for node in tree.body:
            for defined in _defined(node):
                self.definitions[defined].append(node)
        for part in ast.walk(tree):
            if isinstance(part, ast.Import):
                for alias in part.names:
                    target = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imports[alias.asname or target] = target
            elif isinstance(part, ast.ImportFrom):
                base = _absolute(name, file, part)
                for alias in part.names:
                    self.imports[alias.asname or alias.name] = f"{base}.{alias.name}"


def _defined(node: ast.stmt) -> Iterator[str]:
    """Yields the names that a top-level statement defines; one without any, but with an effect, counts as EFFECTS."""
    if is_wording(node) or isinstance(node, ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.If) and _is_guard(node.test):
        return
    names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)] + [
        part.name for part in ast.walk(node) if isinstance(part, ast.FunctionDef | ast.ClassDef)
    ]
    plain = isinstance(node, ast.Assign | ast.AnnAssign) and bool(names)
    yield from dict.fromkeys(names if plain else [*names, _Module.EFFECTS])


def _is_guard(test: ast.expr) -> bool:
    """Returns whether a condition is that of type checking, or of a module run as a command."""
    words = {part.id for part in ast.walk(test) if isinstance(part, ast.Name)}
    words |= {part.attr for part in ast.walk(test) if isinstance(part, ast.Attribute)}
    return bool(words & {"TYPE_CHECKING", "__name__"})


def _absolute(name: str, file: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, *([node.module] if node.module else [])])


@functools.lru_cache(maxsize=1024)
def _module(name: str, package: Path) -> _Module | None:
    file = _file_of(name, package)
    return None if file is None else _Module(name, file, file.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=64)
def _own(name: str, text: str) -> _Module:
    return _Module(name, Path(_file_name(name)), text)


def _file_of(name: str, package: Path) -> Path | None:
    """Returns the file of a dotted module name within the package, None if there is none."""
    parts = name.split(".")
    if parts[0] != package.name:
        return None
    path = package.joinpath(*parts[1:])
    candidates = (path.with_suffix(".py"), path / "__init__.py") if len(parts) > 1 else (path / "__init__.py",)
    return next((file for file in candidates if file.is_file()), None)


def _find(module: _Module, name: str, attributes: tuple[str, ...], package: Path) -> tuple[str, str, int] | None:
    """Returns module, definition and the number of attributes used up of what a global name refers to in the project.

    None for a name of Python's, of a library's, or of a module that is not followed.
    """
    if name in module.definitions:
        return module.name, name, 0
    target = module.imports.get(name)
    if target is None or target.partition(".")[0] != package.name:
        return None
    for used in range(len(attributes) + 1):
        path = ".".join((target, *attributes[:used]))
        place, _, definition = path.rpartition(".")
        found = _module(place, package) if place else None
        if found is None or _file_of(path, package) is not None:
            continue  # a package on the way, or a module that an attribute is still to be taken of
        if definition in found.definitions:
            return place, definition, used
        if definition in found.imports:  # handed on: followed to where it stands
            return _find(found, definition, attributes[used:], package)
    return None


class _Definition:
    """What one definition computes, as pieces of text with the definitions that they name in between, and what it uses.

    Between the pieces stands where a used definition is; its name alone counts, unless two have the same.
    """

    _MARK = "\0"

    def __init__(self, module: _Module, name: str, chosen: frozenset[str] | None, package: Path) -> None:
        self.module, self.package = module, package
        self.uses: set[Place] = set()
        nodes = module.definitions[name]
        record = _is_under(module.name, RECORDS) and all(map(_is_dataclass, nodes))
        texts = [definition_text(node, self._resolve, values_only=record, chosen=chosen) for node in nodes]
        self.pieces = "\n".join(texts).split(self._MARK)
        for annotation in [] if record else itertools.chain.from_iterable(map(annotated_names, nodes)):
            for part in ast.walk(_unquoted(annotation)):
                if isinstance(part, ast.Name):
                    self._resolve(part.id, ())

    def digest(self, twice: Collection[str]) -> str:
        """Returns the SHA-256 of the text; names in `twice` are told apart by their modules."""
        named = [place if place.partition(":")[2] in twice else place.partition(":")[2] for place in self.pieces[1::2]]
        text = "".join(itertools.chain.from_iterable(itertools.zip_longest(self.pieces[::2], named, fillvalue="")))
        return hashlib.sha256(text.encode()).hexdigest()

    def _resolve(self, name: str, attributes: tuple[str, ...]) -> str:
        there = _find(self.module, name, attributes, self.package)
        if there is None:
            return ".".join((self.module.imports.get(name, name), *attributes))
        where, definition, used = there
        if not _is_under(where, NOT_FOLLOWED):
            self.uses.add((where, definition))
            target = _module(where, self.package)
            if target is not None and _Module.EFFECTS in target.definitions:
                self.uses.add((where, _Module.EFFECTS))
        return ".".join((f"{self._MARK}{where}:{definition}{self._MARK}", *attributes[used:]))


@functools.lru_cache(maxsize=4096)
def _definition(place: Place, chosen: frozenset[str] | None, package: Path) -> _Definition:
    module = _module(place[0], package)
    assert module is not None
    return _Definition(module, place[1], chosen, package)


def _is_dataclass(node: ast.stmt) -> bool:
    """Returns whether a definition is a record: other classes of its module count with their fields."""
    decorators = node.decorator_list if isinstance(node, ast.ClassDef) else []
    return any(isinstance(part, ast.Name) and part.id == "dataclass" for each in decorators for part in ast.walk(each))


def _unquoted(annotation: ast.expr) -> ast.AST:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return ast.parse(annotation.value, mode="eval")
        except SyntaxError:
            return annotation
    return annotation


def _is_under(name: str, parents: Iterable[str]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)
