"""Fewer classes out of many: the same images, labeled more coarsely."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_psp.checked import checked
from keras_psp.choices import check_name, repeated
from keras_psp.data.batches import Batches
from keras_psp.data.info import Datasets, attach, info_of
from keras_psp.labels import VOID, ClassList


@checked
def merge_classes(
    data: Datasets, classes: Mapping[str, Sequence[str]], rest: str | None = None
) -> Datasets:
    """Merges the classes of a dataset into fewer.

    Args:
        data: A dataset as the loaders return it, or a list of them.
        classes: Name of each new class, in the order of their labels → names of the old classes
            that become it.
        rest: Name of a last class for all others; `None` makes these void. Void stays void.

    Returns:
        Data of the same kind with the same images and the new labels, or a list of them. Its info
        has the new classes, each with the color of its first old one.

    Raises:
        ValueError: If nobody names the classes of the data, if there is no such old class, or if
            one becomes two new ones.

    Example: (road or not, the first step of fine-tuning)

    ```python
    import keras_psp

    scenes = keras_psp.load_street_scenes("val", image_size=(60, 80), num_images=4)
    road = keras_psp.merge_classes(scenes, {"road": ["Road"]}, rest="other")
    print(road.class_names)
    ```

    ```text
    ['road', 'other']
    ```
    """
    if isinstance(data, list | tuple):
        return [merge_classes(split, classes, rest) for split in data]
    info = info_of(data)
    if info is None:
        raise ValueError(
            "Only a dataset that knows its classes can have them merged. Received: data that "
            "nobody has named the classes of. Pass what load_camvid or load_folder returns, or "
            "name the classes with keras_psp.data.attach."
        )
    old = info.classes.names
    taken = [[check_name("class", name, old) for name in names] for names in classes.values()]
    used = [name for names in taken for name in names]
    if double := repeated(used):
        raise ValueError(
            f"A class can be part of one new class only. Received: {', '.join(map(repr, double))} "
            "more than once. Remove it from the others."
        )
    new = list(classes)
    if rest is not None:
        new.append(rest)
        taken.append([name for name in old if name not in used])
    if empty := [name for name, names in zip(new, taken, strict=True) if not names]:
        raise ValueError(
            f"A new class must take in an old one. Received: {', '.join(map(repr, empty))} of "
            f"nothing, of the classes {', '.join(map(repr, old))}. Leave it out."
        )
    colors = [info.classes.colors[old.index(names[0])] for names in taken]
    info = dataclasses.replace(info, classes=ClassList(new, colors))
    table = np.full(VOID + 1, VOID, np.int32)
    for label, names in enumerate(taken):
        table[[old.index(name) for name in names]] = label

    if isinstance(data, Batches):
        dataset = data.map(lambda images, labels: (images, table[labels]))
    else:
        import tensorflow as tf

        dataset = data.map(lambda images, labels: (images, tf.gather(table, labels)))
    return attach(dataset, info, getattr(data, "set_epoch", None))
