"""Patches of street scenes, each with one class: a small task for classifiers."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_psp.labels import VOID


def cut_patches(
    data: Iterable[Any], num_patches: int, num_classes: int = 11, size: int = 32, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts square patches out of segmented images; a patch has the class of its center pixel.

    Every class gets the same number of patches, from all images that show it. Cut from CamVid's
    train and val frames, they are a task of CIFAR-10's shape.

    Args:
        data: Batches of (image, label), as from `load_camvid`: not augmented, not shuffled.
        num_patches: Number of patches of each class.
        num_classes: Number of classes K.
        size: Side in pixels, even; the center is the pixel at `size // 2`.
        seed: Seed of the random choice.

    Returns:
        The images, uint8 `(K * num_patches, size, size, 3)`, RGB, and their classes, int32
        `(K * num_patches,)`, in random order.

    Raises:
        ValueError: If a class has too few pixels far enough from the border.

    Example:

    ```python
    import keras_psp
    from keras_psp.experiments.patches import cut_patches

    scenes = keras_psp.load_street_scenes("val", (90, 120), 4, num_images=16)
    images, classes = cut_patches(scenes, num_patches=2, size=16)
    print(images.shape, "of the classes", sorted(set(classes.tolist())))
    ```

    ```text
    (22, 16, 16, 3) of the classes [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    ```
    """
    rng = np.random.default_rng(seed)
    half = size // 2
    # For each class: the patches kept so far, behind random keys. The smallest keys win, so that
    # every pixel of the split has the same chance, however many there are.
    kept: list[list[tuple[float, np.ndarray]]] = [[] for _ in range(num_classes)]
    for images, labels in data:
        for image, label in zip(np.asarray(images), np.asarray(labels), strict=True):
            inner = label[half : label.shape[0] - half + 1, half : label.shape[1] - half + 1]
            for k in np.setdiff1d(np.unique(inner), [VOID]):
                ys, xs = np.nonzero(inner == k)
                drawn = rng.uniform(size=ys.size)
                worst = kept[k][-1][0] if len(kept[k]) == num_patches else 1.0
                for i in np.argsort(drawn)[:num_patches]:
                    if drawn[i] >= worst:
                        break
                    patch = image[ys[i] : ys[i] + size, xs[i] : xs[i] + size]
                    kept[k].append((drawn[i], np.rint(patch).astype(np.uint8)))
                kept[k] = sorted(kept[k], key=lambda patch: patch[0])[:num_patches]
    for k, patches in enumerate(kept):
        if len(patches) < num_patches:
            raise ValueError(
                f"Every class needs {num_patches} pixels at least {half} from the border. "
                f"Received: data with {len(patches)} of class {k}. Ask for fewer patches."
            )
    cut = np.stack([patch for patches in kept for _, patch in patches])
    order = rng.permutation(num_classes * num_patches)
    classes = np.repeat(np.arange(num_classes, dtype=np.int32), num_patches)
    return cut[order], classes[order]
