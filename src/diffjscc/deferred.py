"""Imports put off: of a library, the modules that are used, and nothing they import beside."""

from __future__ import annotations

import gc
import importlib.metadata
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Union


class DeferredName:
    """A class or function of a module that is imported when the name is first used.

    It may be called, asked for attributes, subclassed, and stand in `isinstance`, `issubclass` and
    in annotations.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:  # noqa: ANN401 - whatever the module has
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Import it, and call it."""
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # decorators and annotations look for these
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return (self._real(),)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._real())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._real())

    def __or__(self, other: object) -> object:
        return Union[self, other]  # noqa: UP007 - the operator is this one

    def __ror__(self, other: object) -> object:
        return Union[other, self]  # noqa: UP007


class _StandIn(ModuleType):
    """A module in place of one that is put off."""

    def __getattr__(self, name: str) -> object:
        if name == "__version__":
            return importlib.metadata.version(self.__name__)
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is not self:  # afterwards the module itself is needed
            return getattr(importlib.import_module(self.__name__), name)
        return DeferredName(self.__name__, name)


class _Package(ModuleType):
    """A package whose `__init__` runs when a name is asked of it that is no imported submodule."""

    def __init__(self, name: str, loader: Loader) -> None:
        super().__init__(name)
        self._loader = loader

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        self._loader.exec_module(self)
        return getattr(self, name)


class _MakesStandIns(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it empty."""


class _MakesPackages(Loader):
    """Makes a package without running its `__init__`, which `loader` does later."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name, self.loader)

    def exec_module(self, module: ModuleType) -> None:
        """Hand it to the loader that will run its `__init__`."""
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self.loader


class _Finder(MetaPathFinder):
    """Finds stand-ins for whole libraries or single modules, and packages left empty."""

    def __init__(self, modules: Collection[str], packages: Collection[str]) -> None:
        self.put_off = {name for name in modules if name not in sys.modules}
        self.packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del target
        if fullname in self.put_off or fullname.partition(".")[0] in self.put_off:
            return ModuleSpec(fullname, _MakesStandIns(), is_package=True)
        if fullname in self.packages:
            spec = PathFinder.find_spec(fullname, path)
            if spec is not None and spec.loader is not None:
                spec.loader = _MakesPackages(spec.loader)
            return spec
        return None


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector while modules are imported.

    They are hundreds of thousands of objects that stay. Collections, which come with so many new
    ones, would walk through all of them several times: a tenth of the time of `import torch`.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def put_off(
    modules: Collection[str],
    packages: Collection[str] = (),
    replaced: dict[str, dict[str, Callable[..., Any]]] | None = None,
) -> Iterator[None]:
    """Put off imports during the block; whatever was put off is imported once it is used.

    Args:
        modules: libraries or modules that are not imported: names taken from them become
            `DeferredName`s.
        packages: packages of which submodules are imported, but whose `__init__`, which would
            import all of them, is not run until it is needed.
        replaced: modules in whose place there are these functions; they stay as they are.
    """
    finder = _Finder(modules, packages)
    with uncollected(), ExitStack() as stack:
        for name, functions in (replaced or {}).items():
            if name not in sys.modules:
                module = ModuleType(name)
                vars(module).update(functions)
                module.__spec__ = ModuleSpec(name, None)
                sys.modules[name] = module
                stack.callback(sys.modules.pop, name, None)
        sys.meta_path.insert(0, finder)
        stack.callback(sys.meta_path.remove, finder)
        try:
            yield
        finally:
            for name, module in list(sys.modules.items()):
                if isinstance(module, _StandIn):
                    del sys.modules[name]
