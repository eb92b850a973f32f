"""The learning rates that suit what a network starts from."""

RANDOM = "random values"
"""How `initial_weights` begins where nothing was loaded."""

RATES: dict[str, dict[str, float]] = {
    RANDOM: {"learning_rate": 0.02, "head_multiplier": 1.0},
    "trained weights": {"learning_rate": 0.01, "head_multiplier": 10.0},
}
"""What a network starts from → its learning rate, and the factor on it for pyramid, decoder and
heads. Those for trained weights are the paper's: the new layers on them have more to learn. Where
everything is new, everything learns alike."""


def rates_for(initial_weights: str) -> dict[str, float]:
    """Returns the row of `RATES` for a model.

    Args:
        initial_weights: What it started from, in words, as the model's attribute says it.
    """
    return RATES[RANDOM if initial_weights.startswith(RANDOM) else "trained weights"]
