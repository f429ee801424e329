"""The registry of methods: one decorator, from which every other view of a method follows.

A method is its frozen configuration: a keyword-only frozen dataclass with one ``__call__``.
From that one class follow the command-line options, the documentation row, the fingerprint
in the record and the contract tests. Third parties register by the entry-point group
``securitynet.methods``, or name their files in ``SECURITYNET_METHODS``. Standard library only:
listing methods imports no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from securitynet.errors import UsageError, unknown_id

FAMILIES = {"membership": "mia", "stealing": "steal", "backdoor": "backdoor"}
"""Name of each threat's folder -> prefix of its methods."""
KNOWLEDGE = {
    "membership": "who is a member among half of the samples; the other half is scored, then the "
    "halves change places",
    "references": "models that never saw the samples: `securitynet train references`",
    "in_references": "models that saw a random half of the samples: `securitynet train references "
    "--kind online`",
}
"""What an adversary may have besides the target, and what it is."""


FILES = "SECURITYNET_METHODS"
"""Environment variable: files of methods of one's own, separated as in ``PATH``."""


class Access(IntEnum):
    """The threat model: what a method may see of a target, weakest first."""

    LABELS = 0
    TOP_K = 1
    SCORES = 2
    LOGITS = 3
    GRADIENTS = 4
    WEIGHTS = 5


@dataclass(frozen=True)
class Option:
    """One option of a method, read off its dataclass field.

    Attributes:
        name: Field name.
        type: Python type: ``bool``, ``int``, ``float``, ``str`` or ``tuple`` of these.
        default: Default value.
        help: One line.
        choices: Allowed values, empty if free.
        low: Smallest allowed number, if bounded.
        high: Largest allowed number, if bounded.
    """

    name: str
    type: Any
    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None

    def parse(self, text: str) -> Any:
        """Turn command-line text into a value of the option's type.

        Raises:
            ValueError: If the text does not fit; the message says what would.
        """
        origin = typing.get_origin(self.type)
        if origin is tuple:
            item = typing.get_args(self.type)[0]
            return tuple(_scalar(item, part.strip()) for part in text.split(",") if part.strip())
        return _scalar(self.type, text)

    def check(self, value: Any) -> None:
        """Raise ``ValueError`` if a value is outside the option's choices or bounds."""
        for part in value if isinstance(value, tuple) else (value,):
            if self.choices and part not in self.choices:
                raise ValueError(f"{part!r} is not one of {', '.join(map(str, self.choices))}")
            if self.low is not None and part < self.low:
                raise ValueError(f"{part} is below {self.low:g}")
            if self.high is not None and part > self.high:
                raise ValueError(f"{part} is above {self.high:g}")


def _scalar(kind: Any, text: str) -> Any:
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in words:
            raise ValueError(f"{text!r} is not true or false")
        return words[text.lower()]
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {kind.__name__}") from None


def option(
    default: Any,
    help: str,
    *,
    choices: Iterable[Any] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare a field of a method's dataclass as a documented, validated option."""
    metadata = {"help": help, "choices": tuple(choices), "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Method:
    """Everything known about one registered method.

    Attributes:
        name: Id, e.g. ``"mia.modified_entropy"``.
        access: The least access it needs.
        paper: Where it is defined: authors, venue, section.
        version: Rises when its results change.
        config: The frozen dataclass that is the method.
        variants: Option sets that the family's default set runs; empty = not in the set.
        is_seeded: Whether the seed changes the result; if not, one seed is run.
        needs: What it cannot do without, of `KNOWLEDGE`; a run that lacks it leaves the method out.
            Where that depends on an option, `needs_of` knows.
        uses: What it takes if it is there, of `KNOWLEDGE`.
        cost: Queries or passes it needs, in words.
        soundness: When its figure can be believed, in words.
    """

    name: str
    access: Access
    paper: str
    version: int
    config: type[Any]
    variants: tuple[Mapping[str, Any], ...]
    is_seeded: bool
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    cost: str
    soundness: str

    @property
    def family(self) -> str:
        """The prefix of the name: ``mia``, ``steal`` or ``backdoor``."""
        return self.name.split(".", 1)[0]

    @property
    def source(self) -> str | None:
        """The sha256 of the file of one's own that it is defined in, ``None`` in a package."""
        return _SOURCES.get(self.config.__module__)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (self.config.__doc__ or "").strip().split("\n", 1)[0]

    @property
    def formula(self) -> str:
        """The docstring below its first line: the score and what goes into it."""
        return inspect.cleandoc(self.config.__doc__ or "").partition("\n")[2].strip()

    def needs_of(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What this configuration cannot do without: its own property ``needs``, if it has one."""
        return getattr(self.configure(**config), "needs", self.needs)

    @property
    def options(self) -> tuple[Option, ...]:
        """The options, read off the dataclass fields."""
        hints = typing.get_type_hints(self.config)
        return tuple(
            Option(name=f.name, type=hints[f.name], default=f.default, **f.metadata)
            for f in dataclasses.fields(self.config)
        )

    def configure(self, **values: Any) -> Callable[..., Any]:
        """Build the configured method after checking every option.

        Raises:
            UsageError: If an option is unknown or its value is out of range.
        """
        known = {item.name: item for item in self.options}
        for name, value in values.items():
            if name not in known:
                raise unknown_id(
                    f"option of {self.name}", name, known, listing=f"securitynet show {self.name}"
                )
            if isinstance(value, list):
                values[name] = tuple(value)
        for name, item in known.items():
            try:
                item.check(values.get(name, item.default))
            except (ValueError, TypeError) as error:
                raise UsageError(
                    f"{name}: {error}", where=self.name, hint=f"see `securitynet show {self.name}`"
                ) from None
        return typing.cast(Callable[..., Any], self.config(**values))

    def parse(self, name: str, text: str) -> Any:
        """Parse one command-line option of this method.

        Raises:
            UsageError: If the option is unknown or the text does not fit its type.
        """
        known = {item.name: item for item in self.options}
        listing = f"securitynet show {self.name}"
        if name not in known:
            raise unknown_id(f"option of {self.name}", name, known, listing=listing)
        try:
            value = known[name].parse(text)
            known[name].check(value)
        except ValueError as error:
            raise UsageError(f"{name}: {error}", where=self.name, hint=f"see `{listing}`") from None
        return value


_METHODS: dict[str, Method] = {}
_SOURCES: dict[str, str] = {}
_Config = TypeVar("_Config", bound=type)


def method(
    name: str,
    *,
    access: Access,
    paper: str,
    cost: str,
    soundness: str,
    version: int = 1,
    variants: Iterable[Mapping[str, Any]] = ({},),
    is_seeded: bool = False,
    needs: Iterable[str] = (),
    uses: Iterable[str] = (),
) -> Callable[[_Config], _Config]:
    """Register a frozen, keyword-only dataclass with one ``__call__`` as a method.

    Args:
        name: ``family.name``, the family one of ``mia``, ``steal``, ``backdoor``.
        access: The least access it needs; enforced at run time.
        paper: Where it is defined.
        cost: Queries or passes it needs, in words.
        soundness: When its figure can be believed, in words.
        version: Rises when its results change.
        variants: Option sets that the family's default set runs; ``()`` = not in the set.
        is_seeded: Whether the seed changes the result.
        needs: What it cannot do without, of `KNOWLEDGE`.
        uses: What it takes if it is there, of `KNOWLEDGE`.

    Raises:
        ValueError: If the name or the class does not fit, or the name is taken.
    """
    unknown = {*needs, *uses} - set(KNOWLEDGE)
    if unknown:
        raise ValueError(f"{name}: nothing is known of {', '.join(sorted(unknown))}")

    def register(config: _Config) -> _Config:
        parameters = getattr(config, "__dataclass_params__", None)
        is_keyword = parameters and all(item.kw_only for item in dataclasses.fields(config))
        if parameters is None or not (parameters.frozen and is_keyword):
            raise ValueError(f"{name}: a method is a frozen, keyword-only dataclass")
        if name.split(".", 1)[0] not in FAMILIES.values():
            raise ValueError(f"{name}: the family must be one of {', '.join(FAMILIES.values())}")
        known = _METHODS[name].config if name in _METHODS else config
        if (known.__module__, known.__qualname__) != (config.__module__, config.__qualname__):
            raise ValueError(f"{name}: already registered by {known.__module__}")
        _METHODS[name] = Method(
            name, access, paper, version, config, tuple(variants), is_seeded, tuple(needs),
            tuple(uses), cost, soundness,
        )  # fmt: skip
        return config

    return register


@cache
def _import_all() -> None:
    for folder in FAMILIES:
        package = importlib.import_module(f"securitynet.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.startswith("_"):
                continue  # an engine (may import torch), not a method
            importlib.import_module(f"securitynet.{folder}.{module.name}")
    for point in entry_points(group="securitynet.methods"):
        point.load()
    for text in filter(None, os.environ.get(FILES, "").split(os.pathsep)):
        _run_file(Path(text))


def load_methods(path: Path) -> list[Method]:
    """Run a Python file of one's own and return the methods that it registers.

    Worker processes load it, too: its name goes into ``SECURITYNET_METHODS``.

    Raises:
        UsageError: If it cannot be run, or registers nothing, or a name that is taken.
    """
    known = methods()
    path = path.resolve()
    files = list(filter(None, os.environ.get(FILES, "").split(os.pathsep)))
    if str(path) not in files:
        module = _run_file(path)
        os.environ[FILES] = os.pathsep.join([*files, str(path)])
        known = methods()
    else:
        module = _module_of(path)
    return [entry for entry in known.values() if entry.config.__module__ == module]


def _module_of(path: Path) -> str:
    return f"securitynet_method_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"


def _run_file(path: Path) -> str:
    """Run a file once, whatever it raises is one line; return the name of its module."""
    name = _module_of(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError("no such Python file of methods", where=path, hint="give a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    _SOURCES[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the plug-in boundary: it is somebody's code
        what = f"cannot be run: {type(error).__name__}: {error}"
        raise UsageError(what, where=path, hint="see docs/adding-a-method.md") from error
    if not any(entry.config.__module__ == name for entry in _METHODS.values()):
        hint = "decorate a class with @sn.method, see docs/adding-a-method.md"
        raise UsageError("registers no method", where=path, hint=hint)
    return name


def methods() -> dict[str, Method]:
    """Return all registered methods by name, built-in and third-party."""
    _import_all()
    return dict(sorted(_METHODS.items()))


def get_method(name: str) -> Method:
    """Return one method.

    Raises:
        UsageError: If there is none of that name; suggests close ones.
    """
    known = methods()
    if name not in known:
        raise unknown_id("method", name, [*known, *FAMILIES], listing="securitynet list methods")
    return known[name]


def default_set(family: str) -> list[tuple[Method, Mapping[str, Any]]]:
    """Return the (method, options) pairs that a family's name stands for."""
    prefix = FAMILIES[family]
    chosen = [entry for entry in methods().values() if entry.family == prefix]
    return [(entry, variant) for entry in chosen for variant in entry.variants]
