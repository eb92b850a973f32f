"""What must work on JAX and PyTorch as well: layers, losses, scores, PSPNet from start to file.

A process has one backend, so the tests of these parts run once more in a process of their own, on a
machine that seems to have no TensorFlow.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_psp
from tests.train_distributed import make_model

ROOT = Path(__file__).parents[1]
# All of the losses and scores, the contract of layers of each kind, what was worked out by hand,
# PSPNet from training to a file and on two of the lecture's classifiers, segmenting, scoring,
# classifying.
TESTS = [
    "tests/test_keras_internals.py",
    "tests/test_losses.py",
    "tests/metrics/test_streaming.py",
    "tests/callbacks/test_pictures.py::test_real_pictures_of_a_run_have_one_size",
    "tests/callbacks/test_run_folder.py::test_order_and_views_go_on_too",
    "tests/callbacks/test_run_folder.py::test_works_on_every_backend",
    "tests/evaluation/test_segmentation.py::test_frames_are_scored_at_their_own_size",
    "tests/inference/test_segmenting.py::test_the_courses_protocol_is_reproduced[size2-48-views2]",
    "tests/layers/test_batch_normalization.py::test_masked_places_are_left_out",
    "tests/layers/test_batch_normalization.py::test_keeps_the_contract_of_a_layer",
    "tests/layers/test_bilinear_initializer.py::test_transposed_convolution_worked_out_by_hand",
    "tests/layers/test_bilinear_initializer.py::test_cuts_from_the_offset_on",
    "tests/layers/test_bilinear_upsample.py::test_half_pixel_centers_equal_the_lectures_example",
    "tests/layers/test_bilinear_upsample.py::test_keeps_the_contract_with_two_inputs",
    "tests/layers/test_bilinear_upsample.py::test_strips_equal_the_upsampled_map[500-True]",
    "tests/layers/test_blocks.py::test_keeps_the_contract_of_a_layer[bottleneck]",
    "tests/layers/test_convolution.py::test_keeps_the_contract_of_a_layer[1-2]",
    "tests/layers/test_heads.py::test_keeps_the_contract_of_a_layer",
    "tests/layers/test_heads.py::test_small_levels_equal_upsampled_levels[bins0-True-size1]",
    "tests/layers/test_heads.py::test_gradients_equal_those_of_upsampled_levels",
    "tests/layers/test_image_normalization.py::test_keeps_the_contract_of_a_layer[uint8]",
    "tests/layers/test_inception_module.py::test_keeps_the_contract_of_a_layer[options2]",
    "tests/layers/test_dilated_pooling.py::test_keeps_the_contract_of_a_layer[2-DilatedAveragePooling2D]",
    "tests/layers/test_local_response_normalization.py::test_keeps_the_contract_of_a_layer",
    "tests/layers/test_pyramid_pooling.py::test_keeps_the_contract_of_a_layer[average]",
    "tests/layers/test_unpooling.py::test_pooling_and_unpooling_equal_pytorchs[size1-2]",
    "tests/layers/test_unpooling.py::test_pooling_keeps_the_contract_of_a_layer",
    "tests/layers/test_pyramid_pooling.py::test_equals_vector_of_the_course",
    "tests/models/test_backbones.py::test_the_lectures_classifiers_are_backbones[alexnet]",
    "tests/surgery/test_fusion.py::test_other_convolutions_nested_models_and_normalizations_that_stay",
    "tests/surgery/test_fusion.py::test_worked_out_by_hand",
    "tests/models/test_mirrored_vgg.py::test_same_weights_same_logits_as_in_pytorch[deconvnet]",
    "tests/models/test_inputs.py::test_tensors_may_lie_in_dictionary_or_list[dictionary of labels]",
    "tests/models/test_inputs.py::test_images_of_0_to_1_warn_once[generator]",
    "tests/models/test_pspnet.py::test_only_fit_adds_the_auxiliary_loss",
    "tests/models/test_pspnet.py::test_mixed_precision_gives_full_logits[mixed_bfloat16-8]",
    "tests/models/test_pspnet.py::test_trains_by_itself_and_resumes_from_a_file",
    "tests/models/test_pspnet.py::test_what_is_computed_again_is_the_same[float32-1e-05]",
    "tests/models/test_training.py::test_all_but_auxiliary_heads_train_inside_another[pspnet-28-sequential]",
    "tests/models/test_training.py::test_a_step_is_that_of_keras[mixed_float16]",
    "tests/models/test_segmentation_model.py::test_a_batch_of_void_teaches_nothing",
    "tests/models/test_segmentation_model.py::test_keras_losses_weigh_both_heads",
    "tests/models/test_segmentation_model.py::test_class_and_sample_weights_multiply[per pixel]",
    "tests/models/test_segmentation_model.py::test_every_fit_uses_the_same_step[plain first]",
    "tests/models/test_segmentation_model.py::test_another_loss_gets_given_class_weights",
    "tests/models/test_segmentation_model.py::test_what_a_step_cannot_know_of_needs_another",
    "tests/models/test_segmentation_model.py::test_fits_leave_nothing_behind",
    "tests/models/test_segmentation_model.py::test_weights_outlive_an_interrupt",
    "tests/analysis/test_costs.py::test_blocks_of_a_resnet_add_up",
    "tests/analysis/test_receptive_fields.py::test_effective_field_of_a_layer_inside_a_block",
    "tests/layers/test_reflect_padding.py::test_keeps_the_contract_of_a_layer",
    "tests/inference/test_classifying.py::test_probabilities_of_crops_are_averaged[softmax]",
    "tests/inference/test_classifying.py::test_scores_of_a_class_map_are_averaged_first[None]",
    "tests/test_optimizers.py::test_equals_keras_sgd_with_the_same_arguments[nesterov]",
    "tests/test_optimizers.py::test_compiled_step_uses_the_rate_of_the_run",
    "tests/test_optimizers.py::test_loaded_file_trains_at_the_base_rate[model.weights.h5]",
    "tests/test_optimizers.py::test_several_optimizers_share_a_schedule",
]
WITHOUT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})  # tf2onnx installs `tests`, too
from tests.without import hide
hide({{packages!r}})
"""


def run(backend, code, without=(), folder=ROOT):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(packages=set(without)) + code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-5000:]
    return output


WITHOUT_TENSORFLOW = """
# Import and networks need the backend only, training what draws and reads pictures.
import keras_psp
import keras
# Keras changes the bases of the class that the first functional model is of; this has the most.
with keras.StatelessScope(initialize_variables=False):
    keras_psp.Inception("googlenet", weights=None)
sys.meta_path[:] = [getattr(finder, "finder", finder) for finder in sys.meta_path]
hide(["tensorflow", "tensorflow_datasets"])

import numpy as np
import pytest

from keras_psp.cli import main
from keras_psp.models import BACKBONES
from tests.conftest import start_weights_by_numpy
from tests.tiny import tiny_backbone
from tests.train_distributed import make_model

start_weights_by_numpy(pytest.MonkeyPatch())

# The three lines, with a backbone that compiles quickly.
train, val = keras_psp.load_street_scenes(["train", "val"], (33, 41), 4, num_images=8)
assert isinstance(train, keras.utils.PyDataset) and isinstance(val, keras.utils.PyDataset)
train, val = keras_psp.merge_classes([train, val], {"road": ["Road"], "sky": ["Sky"]}, "other")
model = make_model()
seen = []
note = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(train.epoch))
run = keras_psp.RunFolder("three", classes=keras_psp.labels.ClassList(train.class_names))
history = model.fit(train, validation_data=val, epochs=2, verbose=0, callbacks=[note, run]).history
assert seen == [0, 1] and len(history["val_mean_iou"]) == 2
scores = model.evaluate(val, verbose=0, return_dict=True)
result = keras_psp.evaluate(model, val, classes=run.classes)
assert abs(result.mean_iou - scores["mean_iou"]) < 1e-5
assert [*result.names] == val.sample_names
(one, *_), (other, *_) = keras_psp.segment(model, [image for image in val[0][0]]), val[0]
assert one.shape == (33, 41)

# The command line, on CamVid's folders.
BACKBONES["tiny"] = tiny_backbone
small = ["--backbone", "tiny"]
assert main(["train", "--data", "camvid", "--data-dir", "CamVid", "--run", "run", *small,
             "--image-size", "33", "41", "--batch-size", "2", "--epochs", "1"]) == 0
assert main(["evaluate", "run"]) == 0
assert main(["predict", "CamVid/val/0.png", "--model", "run"]) == 0
assert main(["data", "check", "CamVid"]) == 0
"""


@pytest.fixture
def small_camvid(tmp_path, write_image):
    for split in ("train", "val"):
        for number in range(4):
            image, label = keras_psp.street_scene(number, (36, 48))
            write_image(tmp_path / "CamVid" / split / f"{number}.png", image)
            write_image(tmp_path / "CamVid" / f"{split}annot" / f"{number}.png", label)
    return tmp_path


# What a user does, and then the tests, in one process: importing a backend takes seconds.
THE_TESTS = f"""
import os
import pytest

os.chdir({str(ROOT)!r})
# XLA compiles every case anew; those with weights stay, and those with other arguments.
others = [
    "--deselect=tests/" + name
    for name in ("test_losses.py::test_of_upsampled_equals_loss_of_upsampled_logits[False",
                 "test_losses.py::test_equals_keras_loss_with_the_same_arguments[False",
                 "metrics/test_streaming.py::test_equals_keras_mean_iou_with_the_same_arguments[{{}}",
                 "metrics/test_streaming.py::test_equals_keras_mean_iou_with_the_same_arguments[{{'dt")
]
# In no other processes, which would find TensorFlow.
options = ["-q", "-p", "no:cacheprovider", "--numprocesses=0", *others]
sys.exit(pytest.main([*options, *{TESTS!r}]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_works_without_tensorflow(backend, small_camvid):
    if keras.backend.backend() == backend:
        pytest.skip(f"is what the other tests just did on {backend}")
    optional = ["tensorflow", "tensorflow_datasets", "matplotlib", "PIL"]
    output = run(backend, WITHOUT_TENSORFLOW + THE_TESTS, without=optional, folder=small_camvid)
    assert " passed" in output
    assert "no tests ran" not in output


# On JAX it would show if TensorFlow came with us.
@pytest.mark.parametrize("backend", sorted({"tensorflow", "jax", keras.backend.backend()}))
def test_import_is_quick_and_enough_to_load(backend, saved, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    code = """
import gc
import time
gc.disable()  # as timeit does: one collection of all that JAX made takes .1 s, wherever it falls
start = time.process_time()
import keras
keras_time, before = time.process_time() - start, set(sys.modules)
start = time.process_time()
import keras_psp
own_time = time.process_time() - start
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
unwanted = {"tensorflow", "tensorflow_datasets", "matplotlib", "PIL", "keras_hub", "keras_cv"}
assert not loaded & (unwanted | {"scipy"}), loaded
print(f"share={own_time / keras_time} seconds={own_time}")
"""
    if backend == keras.backend.backend():
        code += f"""
model = keras.saving.load_model({str(saved / "model.keras")!r})
assert type(model) is type(keras_psp.load_run({str(saved)!r}).model) is keras_psp.PSPNet
"""
    # Of the processor's time: 3 % on an idle machine, more on one that does much else, and for the
    # very first time, when Python compiles the files.
    for _ in range(3):
        share, seconds = map(float, re.findall(r"(?:share|seconds)=(\S+)", run(backend, code)))
        if share <= 0.1 and seconds <= 0.5:
            return
    pytest.fail(f"keras_psp takes {seconds:.2f} s, {share:.0%} of what Keras takes")


@pytest.fixture
def saved(tmp_path, no_pictures):
    """A run folder and a file; the backbone, too, is of layers that only the import makes known."""
    model = make_model()
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    images, labels = np.zeros((1, 33, 33, 3)), np.zeros((1, 33, 33), "int32")
    model.fit(images, labels, callbacks=[keras_psp.RunFolder(tmp_path)], verbose=0)
    model.save(tmp_path / "model.keras")
    return tmp_path
