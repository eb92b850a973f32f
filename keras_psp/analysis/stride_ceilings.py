"""What the stride of a network leaves to be reached: the best label maps from its small logits."""

import numpy as np

from keras_psp.arrays import to_numpy
from keras_psp.checked import checked
from keras_psp.layers.bilinear_upsample import interpolation_matrix

_RATE, _MOMENTUM = 8.0, 0.9


@checked
def best_at_stride(
    labels: np.ndarray,
    stride: int = 8,
    *,
    num_classes: int,
    image_size: tuple[int, int] | None = None,
    align_corners: bool = True,
    steps: int = 100,
) -> np.ndarray:
    """The label maps that the best logits of a stride give, once they are upsampled.

    A network of stride 8 decides about one cell for every 8×8 pixels, and bilinear upsampling fills
    in the rest. A pole of three pixels is lost there, whatever the network has learned. So the
    score of these label maps is a ceiling: nobody trains above it by much. The logits are found by
    gradient descent on the cross-entropy, which has no other minimum than the best one; more steps
    find a little more (a hundredth for poles at stride 8 of CamVid).

    Args:
        labels: Label maps, integers `(batch, height, width)`; labels from `num_classes` on are
            void.
        stride: Pixels of the image per cell of the logits, along each axis.
        num_classes: Number of classes.
        image_size: `(height, width)` in pixels that the network sees, if it is not that of the
            labels: enlarged frames have more cells.
        align_corners: How the logits are upsampled; see `keras_psp.layers.BilinearUpsample`.
        steps: Steps of gradient descent.

    Returns:
        Classes, uint8 `(batch, height, width)`.

    Raises:
        ValueError: If the labels are no batch of label maps, or the stride is not positive.

    Example:

    ```python
    import numpy as np
    from keras_psp.analysis import best_at_stride

    pole = np.zeros((1, 64, 64), int)
    pole[:, :, 33:35] = 1  # two pixels wide, between two cells
    for stride in (2, 4, 32):
        found = best_at_stride(pole, stride, num_classes=2)[pole == 1].mean()
        print(f"stride {stride}: {found:.0%} of the pole")
    ```

    ```text
    stride 2: 100% of the pole
    stride 4: 100% of the pole
    stride 32: 0% of the pole
    ```
    """
    labels = to_numpy(labels)
    if labels.ndim != 3 or stride < 1:
        raise ValueError(
            "Labels are a batch of label maps, and a stride is at least 1. "
            f"Received: labels of shape {labels.shape}, stride={stride}. Give labels[None] for "
            "one label map."
        )
    size = labels.shape[1:]
    rows, columns = (
        to_numpy(interpolation_matrix(-(-seen // stride), own, align_corners, "float32"))
        for seen, own in zip(image_size or size, size, strict=True)
    )
    # How many pixels each cell reaches, so that cells at the border learn as fast.
    reach = np.maximum(rows.sum(0)[:, None] * columns.sum(0), 1e-3)
    best = np.empty(labels.shape, np.uint8)
    for label, found in zip(labels, best, strict=True):
        truth = label == np.arange(num_classes)[:, None, None]
        logits = velocity = np.zeros((num_classes, *reach.shape), np.float32)
        for _ in range(steps):
            large = rows @ (logits @ columns.T)
            error = np.exp(large - large.max(0))
            error = (error / error.sum(0) - truth) * truth.any(0)
            velocity = _MOMENTUM * velocity + rows.T @ error @ columns / reach
            logits = logits - _RATE * velocity
        found[:] = (rows @ (logits @ columns.T)).argmax(0)
    return best
