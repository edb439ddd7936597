"""Self-correcting generative recommendation: draft semantic IDs, reflect, correct.

The names below are those of `redraft.api`, imported when they are first used, so that `import redraft` takes no time.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redraft.api import (
        InputError,
        Interactions,
        evaluate,
        import_data,
        load,
        load_data,
        make_shop,
        recommend,
        tokenize,
        train,
    )

    __version__: str

__all__ = [
    "InputError",
    "Interactions",
    "__version__",
    "evaluate",
    "import_data",
    "load",
    "load_data",
    "make_shop",
    "recommend",
    "tokenize",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("redraft")
    if name in __all__:
        return getattr(import_module("redraft.api"), name)
    raise AttributeError(f"module 'redraft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
