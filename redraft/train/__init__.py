"""Training, one loop per file. `redraft.train(...)` is `redraft.api.train(...)`: the package can be called."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("redraft.api").train(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
