"""What the tests of weights share with those of models."""

from tests.models.conftest import zeros_first  # noqa: F401
