"""A Python without some of the packages that are installed."""

import sys
from collections.abc import Collection


class _Finder:
    def __init__(self, finder, packages):
        self.finder = finder
        self.packages = packages

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *args):
        if name.partition(".")[0] not in self.packages:
            return self.finder.find_spec(name, *args)


def hide(packages: Collection[str]) -> None:
    """Lets packages seem not to be installed, in this process and from now on.

    Importing them fails, looking for them finds nothing, and `sys.modules` does not know their
    names.
    """
    sys.meta_path[:] = [_Finder(finder, packages) for finder in sys.meta_path]
