"""The parts of the pilots' program that need no training."""

import json

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def pilots(benchmark):
    return benchmark("pilots")


@pytest.fixture
def pixels():
    """Labels of four classes and void, and logits."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4, 255], (2, 6, 7)).astype("int32")
    return labels, rng.normal(size=(2, 6, 7, 11)).astype("float32")


def test_lovasz_softmax_is_the_extension_of_the_jaccard_loss(pilots, pixels):
    labels, logits = (part[pixels[0] != 255] for part in pixels)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = []
    for number in np.unique(labels):
        is_class = labels == number
        errors = np.where(is_class, 1 - shares[:, number], shares[:, number])
        order = np.argsort(-errors)

        def loss_of(wrong, is_class=is_class):
            """1 − IoU where these pixels are wrong."""
            found = is_class.copy()
            found[wrong] ^= True
            return 1 - (found & is_class).sum() / (found | is_class).sum()

        # Equation 8: the errors, largest first, each times what its pixel adds to the loss.
        steps = [loss_of(order[: i + 1]) - loss_of(order[:i]) for i in range(len(order))]
        losses.append(errors[order] @ steps)
    assert float(pilots.lovasz_softmax(*pixels)) == pytest.approx(np.mean(losses), abs=1e-5)


def test_only_the_hardest_quarter_counts(pilots, pixels):
    labels, logits = pixels
    weights = np.linspace(1, 2, 11)
    valid = labels != 255
    scores = logits[valid]
    of_pixels = np.log(np.exp(scores).sum(-1)) - scores[range(len(scores)), labels[valid]]
    of_pixels = np.sort(of_pixels * weights[labels[valid]])
    expected = of_pixels[-labels.size // 4 :].mean()
    assert float(pilots.Hardest(weights.tolist())(*pixels)) == pytest.approx(expected, rel=1e-5)


def test_rare_classes_are_pasted_onto_the_next_image(pilots):
    # Sky, and a sign in the second image: the third gets it.
    labels = np.full((3, 4, 5), 2, "int32")
    labels[1, 2, 3] = 4
    images = np.broadcast_to(np.arange(3.0)[:, None, None, None], (3, 4, 5, 3)).astype("float32")
    new_images, new_labels = pilots.paste_rare(*map(tf.constant, (images, labels)), share=1.0)
    expected = labels.copy()
    expected[2, 2, 3] = 4
    np.testing.assert_array_equal(new_labels, expected)
    np.testing.assert_array_equal(new_images[2, 2, 3], [1, 1, 1])
    assert (new_images.numpy() != images).sum() == 3


def test_the_table_compares_each_seed_with_the_same_of_the_base(pilots, tmp_path, capsys):
    scores = {(pilots.BASE, 1): 0.40, (pilots.BASE, 2): 0.44, ("AdamW", 2): 0.45}
    for number, ((name, seed), score) in enumerate(scores.items()):
        one = {"name": name, "seed": seed, "mean_iou": score, "seconds": 300}
        (tmp_path / f"{number}.json").write_text(json.dumps({**one, "per_class": [score] * 11}))
    found = pilots.read(tmp_path)
    assert pilots.gains_of("AdamW", found) == {2: pytest.approx(0.01)}
    pilots.report(found)
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert last.split() == ["AdamW", "0.450", "+0.010", *["0.45"] * 5, "5"]
