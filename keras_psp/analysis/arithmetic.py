"""The arithmetic of convolutions: how large their output is, and which matrix they are."""


def padding_before(
    size: int, kernel_size: int, strides: int, padding: int | str, dilation_rate: int
) -> int:
    """The number of zeros that a convolution puts before the first cell along one axis."""
    if isinstance(padding, int):
        return padding
    if padding == "valid":
        return 0
    cells = -(-size // strides)
    reach = dilation_rate * (kernel_size - 1)
    return max((cells - 1) * strides + reach + 1 - size, 0) // 2
