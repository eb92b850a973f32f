"""The configuration of layers, losses and metrics, which Keras saves."""

import inspect
from typing import Any


class FromArguments:
    """Gives a class of Keras a `get_config` of all arguments of its `__init__`, defaults included.

    Each argument must be an attribute of the same name. Among the bases this comes first.
    """

    def get_config(self) -> dict[str, Any]:
        _self, *names = inspect.signature(type(self).__init__).parameters
        own = {name: getattr(self, name) for name in names if name != "kwargs"}
        return {**super().get_config(), **own}  # type: ignore[misc]
