"""What a data set says about itself: one description that travels with the data."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from keras_psp.checked import checked, short
from keras_psp.keras_internals import input_datasets
from keras_psp.labels import ClassList, check_same_classes, numbered_classes

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Dataset: TypeAlias = "tf.data.Dataset | keras.utils.PyDataset"
"""What the loaders return: the first on TensorFlow, the second (`Batches`) on other backends."""

Data: TypeAlias = "tf.data.Dataset | keras.utils.PyDataset | Iterable[Any]"
"""What `fit` takes, also arrays, a `DataLoader`, a list or a generator of batches."""

Datasets = TypeVar("Datasets", "Dataset", "list[Dataset]")
"""A data set or a list of them: what a function is given it returns."""


@checked
@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set. `info_of` returns it, `attach` sets it.

    Args:
        classes: Names and colors of its classes.
        sample_names: The names of its images; in the order of the images unless `shuffled`.
        split: The split that it is, such as `"train"`.
        shuffled: Whether every epoch has an order of its own.
        merging: How the classes were merged from finer ones, where there are several ways:
            CamVid's `"segnet"` or `"mseg"`.
    """

    classes: ClassList
    sample_names: tuple[str, ...] = ()
    split: str | None = None
    shuffled: bool = False
    merging: str | None = None


# The operations of tf.data that leave every image where it was. Behind the others the names of the
# images are forgotten.
_IN_ORDER = re.compile(
    "_?(Take|Map|ParallelMap|Prefetch|Cache|Batch|ParallelBatch|PaddedBatch|Rebatch|Restructured"
    "|Unbatch|Options|AssertCardinality)Dataset"
)


def info_of(data: Data) -> DatasetInfo | None:
    """Returns what a data set says about itself.

    The data sets of this package say it, and so does what `tf.data` makes of them: the info is
    found behind `take`, `map`, `batch`, `prefetch` and the like. Where the images come in another
    order, as behind `shuffle` or `skip`, it has no `sample_names`. Of a data set that follows
    Keras' convention, as those of `keras.utils.image_dataset_from_directory` do, `class_names` is
    read.

    Args:
        data: A data set, or anything else that `fit` takes.

    Returns:
        The info, or `None` where nobody names the classes: of arrays, for example, and of data
        sets that several others with different classes were joined to.

    Example:

    ```python
    import keras_psp
    from keras_psp.data import info_of

    val = keras_psp.load_street_scenes("val", image_size=(60, 80), num_images=4)
    info = info_of(val)
    print(info.split, info.classes.names[:3])
    ```

    ```text
    val ('Building', 'Tree', 'Sky')
    ```
    """
    info = getattr(data, "info", None)
    if isinstance(info, DatasetInfo):
        return info
    names = getattr(data, "class_names", None)
    if names is not None:
        return DatasetInfo(ClassList(names))
    first, *others = [info_of(source) for source in input_datasets(data)] or [None]
    if first is None:
        return None
    if others:
        same = all(other is not None and other.classes == first.classes for other in others)
        return DatasetInfo(first.classes) if same else None
    if not _IN_ORDER.fullmatch(type(data).__name__):
        return dataclasses.replace(first, sample_names=())
    return first


def shared_classes(
    num_classes: int, info: DatasetInfo | None, classes: ClassList | None = None
) -> ClassList:
    """Returns the classes that a model and its data have in common.

    Args:
        num_classes: The number of the model's classes.
        info: What the data say about themselves.
        classes: The classes, where they are known.

    Returns:
        `classes`; by default those of the data, and otherwise numbers: "class 0", ….

    Raises:
        ValueError: If model, data and `classes` do not agree.
    """
    if classes is None:
        classes = numbered_classes(num_classes) if info is None else info.classes
    elif info is not None:
        check_same_classes(classes, info.classes)
    check_same_classes(num_classes, classes)
    return classes


@checked
def attach(
    data: Dataset, info: DatasetInfo, set_epoch: Callable[[int], None] | None = None
) -> Dataset:
    """Lets a data set say what it is.

    `class_names` is Keras' own convention; `class_colors` and `sample_names` follow it.

    Args:
        data: A `tf.data.Dataset`, a `keras.utils.PyDataset`, or another object with attributes.
        info: What it shall say.
        set_epoch: Where order or augmentation depend on the epoch, what tells the data which one
            comes next. `Batches` have their own.

    Returns:
        `data`, with the attributes `info`, `class_names`, `class_colors`, `sample_names` and, if
        given, `set_epoch`.

    Example: (a function of your own changes the classes)

    ```python
    import keras_psp
    from keras_psp.data import DatasetInfo, attach
    from keras_psp.labels import ClassList

    scenes = keras_psp.load_street_scenes("val", image_size=(60, 80), num_images=4)
    blind = attach(scenes.map(lambda x, y: (x, 0 * y)), DatasetInfo(ClassList(["something"])))
    print(blind.class_names)
    ```

    ```text
    ['something']
    ```
    """
    try:
        data.info = info
    except (AttributeError, TypeError) as error:
        raise ValueError(
            "What says of itself what it is has attributes. "
            f"Received: data={short(data)}, a {type(data).__name__}, which takes none. Pass a "
            "tf.data.Dataset or a keras.utils.PyDataset."
        ) from error
    data.class_names = list(info.classes.names)
    data.class_colors = list(info.classes.colors)
    data.sample_names = list(info.sample_names)
    if set_epoch is not None and not hasattr(data, "set_epoch"):
        data.set_epoch = set_epoch
    return data
