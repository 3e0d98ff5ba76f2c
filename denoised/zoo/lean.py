"""diffusers' UNet2DModel without the networks and the compiler it is packaged with.

From the start of a process to its first picture most of the time goes into imports that the picture does not need:

- The packages `diffusers.models.unets` and `diffusers.models.transformers` import every network they hold, and those
  half of transformers, scipy.stats and the loaders of adapters. Here they do so when they are first asked for a name.
- diffusers.utils imports torch._dynamo, to tell a compiler that does not run here about some of its classes, and does
  without where that cannot be imported.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

import torch  # noqa: F401  which torch._dynamo belongs to, before that is hidden

if TYPE_CHECKING:
    from diffusers import UNet2DModel

PACKAGES = ("diffusers.models.transformers", "diffusers.models.unets")
COMPILER = "torch._dynamo"


def import_unet_2d() -> type[UNet2DModel]:
    """The class that `from diffusers import UNet2DModel` gives.

    All else of diffusers and torch can be imported afterwards as ever; what has been imported before stays.
    """
    hidden = COMPILER not in sys.modules
    if hidden:
        sys.modules[COMPILER] = None  # type: ignore[assignment]  # Python's way to say: not to be found
    try:
        for name in PACKAGES:
            if name not in sys.modules:
                postpone(name)
        from diffusers.models.unets.unet_2d import UNet2DModel
    finally:
        if hidden:
            del sys.modules[COMPILER]
    return UNet2DModel  # type: ignore[no-any-return]


def postpone(name: str) -> None:
    """Make a package importable whose own code runs when it is first asked for a name that is not yet there.

    importlib's LazyLoader runs it when a module inside is imported, which is what must not happen.
    """
    spec = find_spec(name)
    assert spec is not None and spec.loader is not None
    package, loader = module_from_spec(spec), spec.loader

    def load(attribute: str) -> object:
        del package.__dict__["__getattr__"]  # PEP 562: asked for what is not there
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, package)
