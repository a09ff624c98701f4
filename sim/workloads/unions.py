"""Tagged unions of the registered plug-ins, so that a new file is at once usable in YAML by its `kind`."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from sim.core import PlansimError, Registry


def tagged_union(registry: Registry[Any]) -> Any:
    """A type that pydantic fills with the plug-in of `registry` named by `kind`.

    Raises:
        PlansimError: if a plug-in's `kind` is not the name it is registered by.
    """
    members = [(name, registry.get(name)) for name in registry.names()]
    for name, item in members:
        if getattr(item.model_fields["kind"].annotation, "__args__", None) != (name,):
            raise PlansimError(f"{registry.kind} {name!r} must declare `kind: Literal[{name!r}]`")
    return Annotated[reduce(or_, (item for _, item in members)), Field(discriminator="kind")]
