"""What does it cost to share a training step among replicas?

    python tests/benchmarks/replicas.py --json replicas.json

A training step of PSPNet on one replica beside the same on several: at the same global batch
(strong scaling) and at the same batch for each (weak scaling). GPUs are taken where there are any,
otherwise the cores of the CPU, in three ways:

    mirrored   TensorFlow's MirroredStrategy, replicas in one process
    devices    JAX, replicas in one process
    processes  JAX, a process for each replica (Linux)

An efficiency is images per second, for each GPU or core that is used, of several replicas over one.
It would be 1 if sharing were free. On a CPU the replicas of one process share the cores with which
one replica computes alone, so nothing can become faster there: what is measured is what splitting
costs. Processes have a core each.

Steps of all contenders are taken in turns, so that what else the machine does strikes all of them,
and efficiencies are taken within a round. What cannot run says why.
"""

import argparse
import json
import math
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

KINDS = {"mirrored": "tensorflow", "devices": "jax", "processes": "jax"}
CLASSES = 11


# A replica, or those of one process --------------------------------------------------------------


def make_model(args):
    import keras_psp

    import keras

    keras.utils.set_random_seed(0)
    model = keras_psp.PSPNet(
        args.variant, CLASSES, backbone_weights=None, output_stride=16, dropout=0.0
    )
    model.compile()
    model.optimizer.build(model.trainable_variables)
    return model


def make_batch(args, number):
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (number, *args.size, 3)).astype("float32")
    return images, rng.integers(0, CLASSES, (number, *args.size)).astype("int32")


def batch_norms(model):
    from keras_psp import keras_internals

    import keras

    layers = keras_internals.layers_in(model)
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def widest(model):
    return max(batch_norms(model), key=lambda norm: norm.moving_mean.shape[0])


def facts(model):
    """What the replicas have to agree on in every step."""

    def bytes_of(variables):
        return 4 * sum(math.prod(v.shape) for v in variables)

    norms = batch_norms(model)
    return {
        "gradient_bytes": bytes_of(model.trainable_variables),
        "batch_norms": len(norms),
        # Mean and variance forwards, their gradients backwards.
        "statistics_bytes": 4 * bytes_of(norm.moving_mean for norm in norms),
    }


def mirrored(args):
    """Name → function that takes a step and gives the loss, or that all-reduces; and facts."""
    import tensorflow as tf

    kind = "GPU" if args.gpus else "CPU"
    if not args.gpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * args.replicas
        tf.config.set_logical_device_configuration(cpu, logical)
    strategy = tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(args.replicas)])
    with strategy.scope():
        model = make_model(args)
    data = tf.data.Dataset.from_tensors(make_batch(args, args.batch)).repeat()
    batches = iter(strategy.experimental_distribute_dataset(data))
    model.make_train_function()

    def all_reduce(variables):
        def on_replica():
            likes = [variable.value + 0.0 for variable in variables]
            sums = tf.distribute.get_replica_context().all_reduce("SUM", likes)
            return tf.add_n([tf.reshape(s, [-1])[0] for s in sums])  # all of them are needed

        run = tf.function(lambda: strategy.reduce("SUM", strategy.run(on_replica), axis=None))
        return lambda: float(run())

    orders = {
        "step": lambda: float(model.train_function(batches)["loss"]),
        "gradients": all_reduce(model.trainable_variables),
        "statistics": all_reduce([widest(model).moving_mean]),
    }
    return orders, facts(model)


def with_jax(args):
    """The same on JAX, in this process or in several."""
    import jax
    import keras

    if args.kind == "processes":
        keras.distribution.initialize(args.address, args.replicas, args.process)
    devices = keras.distribution.list_devices()[: args.replicas]
    if len(devices) < args.replicas:
        raise RuntimeError(f"{args.replicas} replicas need as many devices; JAX sees {devices}")
    distribution = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)
    model = make_model(args)

    share = args.batch // args.processes
    batch = [part[args.process * share :][:share] for part in make_batch(args, args.batch)]
    batch = [
        jax.make_array_from_process_local_data(
            distribution.get_data_layout(part.shape).backend_layout, part
        )
        for part in batch
    ]
    # Keras' own step, compiled here, so that it can be looked at.
    model._symbolic_build(data_batch=(*batch, None))
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
        purge_model_variables=True,
    )
    shardings = jax.tree.map(lambda value: value.sharding, state)
    step = jax.jit(model.train_step, donate_argnums=0, out_shardings=(None, shardings))
    step = step.lower(state, (*batch, None)).compile()

    def take_step():
        nonlocal state
        logs, state = step(state, (*batch, None))
        return float(logs["loss"])

    found = facts(model) | collectives(step.as_text())
    mesh = distribution.device_mesh.backend_mesh
    everywhere, one_each = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in ((), ("batch",))
    )

    def all_reduce(size):
        zeros = jax.jit(lambda: jax.numpy.zeros((args.replicas, size)), out_shardings=one_each)()
        total = jax.jit(lambda x: x.sum(0), out_shardings=everywhere)
        return lambda: total(zeros).block_until_ready()

    orders = {
        "step": take_step,
        "gradients": all_reduce(found["gradient_bytes"] // 4),
        "statistics": all_reduce(widest(model).moving_mean.shape[0]),
    }
    return orders, found


def collectives(program):
    """How many all-reduces a compiled program has, and their bytes."""
    sizes = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1}
    program = re.sub(r"/\*.*?\*/", "", program)  # long tuples have comments in them
    found = re.findall(r"= (\(?[^=]*?\)?) all-reduce(?:-start)?\(", program)
    total = 0
    for result in found:
        for dtype, shape in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", result):
            total += sizes[dtype] * math.prod(map(int, filter(None, shape.split(","))))
    return {"all_reduces": len(found), "all_reduced_bytes": total}


def work(args):
    """Takes orders by standard input, and answers by what was standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print is for nobody.
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    orders, found = (mirrored if args.kind == "mirrored" else with_jax)(args)
    found["losses"] = [orders["step"]() for _ in range(2)]
    for order in orders.values():
        order()
    print(json.dumps(found), file=answers, flush=True)
    for order in sys.stdin:
        name, times = order.split()
        start = time.perf_counter()
        for _ in range(int(times)):
            orders[name]()
        print(json.dumps((time.perf_counter() - start) / int(times)), file=answers, flush=True)


# All of them -------------------------------------------------------------------------------------


class Contender:
    """The processes in which one kind trains with some replicas at some global batch."""

    def __init__(self, kind, replicas, batch, gpus, options):
        self.replicas, self.batch = replicas, batch
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        processes = replicas if kind == "processes" else 1
        available, noun = (gpus, "GPUs") if gpus else (len(cores), "cores that it may choose from")
        if (gpus or kind == "processes") and available < replicas:
            raise RuntimeError(f"{replicas} replicas need as many {noun}; there are {available}")
        # What an efficiency is for each of: GPUs, or cores where every process has its own.
        self.units = replicas if gpus or kind == "processes" else 1
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [sys.executable, __file__, *options, "--worker", "--kind", kind]
        command += ["--replicas", str(replicas), "--batch", str(batch), "--gpus", str(gpus)]
        command += ["--address", address, "--processes", str(processes)]
        environment = os.environ | {"KERAS_BACKEND": KINDS[kind], "TF_CPP_MIN_LOG_LEVEL": "2"}
        # Several contenders are in the memory of one GPU.
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment |= {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        if not gpus:
            flag = f"--xla_force_host_platform_device_count={replicas // processes}"
            environment |= {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
            environment["JAX_CPU_COLLECTIVES_IMPLEMENTATION"] = "gloo"
        self.logs, self.processes = [], []
        for process in range(processes):
            own = ["--process", str(process)]
            if kind == "processes" and not gpus:
                own += ["--core", str(cores[process])]
            if kind == "processes" and gpus:
                environment["JAX_LOCAL_DEVICE_IDS"] = str(process)
            self.logs.append(tempfile.TemporaryFile("w+"))  # noqa: SIM115
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.logs[-1]}
            self.processes.append(
                subprocess.Popen([*command, *own], env=environment, text=True, **pipes)
            )

    def answers(self):
        lines = [process.stdout.readline() for process in self.processes]
        for line, process, log in zip(lines, self.processes, self.logs, strict=True):
            if not line:
                log.seek(0)
                text = log.read()
                errors = re.findall(r"^\S*(?:Error|Exception|Interrupt): .*", text, re.MULTILINE)
                last = [*text.splitlines()[-1:], *errors][-1:]
                raise RuntimeError(f"{self} images: exit {process.wait()}, {' '.join(last)}")
        return [json.loads(line) for line in lines]

    def seconds(self, order, times):
        """For each of `times`; those of the slowest process."""
        for process in self.processes:
            print(order, times, file=process.stdin, flush=True)
        return max(self.answers())

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def __str__(self):
        return f"{self.replicas} × {self.batch // self.replicas}"


def measure(kind, replicas, gpus, args, options):
    """Seconds for each step of 1 × b, 1 × rb and r × b images, by round, and what is known."""
    batch = args.images
    settings = [(1, batch)]
    settings += [pair for r in replicas for pair in ((1, r * batch), (r, r * batch))]
    contenders = []
    # A process may wait for ever for one that is no more.
    watch = threading.Timer(args.limit, lambda: [c.end() for c in contenders])
    watch.start()
    try:
        known = []
        for setting in settings:
            contenders.append(Contender(kind, *setting, gpus, options))
            known.append(contenders[-1].answers()[0])
        for one, several in zip(known[1::2], known[2::2], strict=True):
            if not all(
                math.isclose(a, b, rel_tol=1e-3)
                for a, b in zip(one["losses"], several["losses"], strict=True)
            ):
                raise RuntimeError(f"losses differ: {one['losses']}, {several['losses']}")
        rounds = [
            [contender.seconds("step", args.steps) for contender in contenders]
            for _ in range(args.rounds)
        ]
        return [
            {
                "kind": kind,
                "replicas": contender.replicas,
                "batch": contender.batch,
                "units": contender.units,
                "seconds": list(seconds),
                "gradients_seconds": contender.seconds("gradients", 5),
                "statistics_seconds": contender.seconds("statistics", 50),
                **found,
            }
            for contender, seconds, found in zip(
                contenders, zip(*rounds, strict=True), known, strict=True
            )
        ]
    finally:
        watch.cancel()
        for contender in contenders:
            contender.end()


def efficiency(several, one):
    """Images per second and unit, of several replicas over one: median, lowest, highest."""
    share = several["batch"] / several["units"] / (one["batch"] / one["units"])
    pairs = zip(several["seconds"], one["seconds"], strict=True)
    ratios = [share * b / a for a, b in pairs]
    return statistics.median(ratios), min(ratios), max(ratios)


def show(rows):
    first = rows[0]
    for row in rows:
        columns = [f"{row['kind']:10}{row['replicas']:3} × {row['batch'] // row['replicas']:<3}"]
        columns.append(f"{statistics.median(row['seconds']):7.3f}")
        if row["replicas"] > 1:
            whole = next(r for r in rows if r["replicas"] == 1 and r["batch"] == row["batch"])
            for one in (whole, first):
                columns.append("{:.2f} ({:.2f} … {:.2f})".format(*efficiency(row, one)))
            for what in ("gradients_seconds", "statistics_seconds"):
                columns.append(f"{1000 * row[what]:9.2f}")
        print("  ".join(columns), flush=True)
    last = rows[-1]
    text = f"{'':10}{last['gradient_bytes'] / 1e6:.1f} MB of gradients"
    text += f", {last['statistics_bytes'] / 1e6:.2f} MB of statistics"
    text += f" of {last['batch_norms']} batch norms"
    if "all_reduces" in last:
        text += f"; {last['all_reduces']} all-reduces of {last['all_reduced_bytes'] / 1e6:.1f} MB"
    print(text, flush=True)


def count_gpus():
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(re.findall(r"^GPU \d+", listed.stdout, re.MULTILINE))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="resnet18")
    parser.add_argument("--size", type=int, nargs=2, default=[97, 129], metavar=("H", "W"))
    parser.add_argument("--images", type=int, default=4, help="for each replica")
    parser.add_argument("--replicas", type=int, nargs="+", default=[2], help="numbers above 1")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--steps", type=int, default=3, help="for each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=600, help="seconds for one kind")
    parser.add_argument("--json", help="file for all that was measured")
    worker = parser.add_argument_group()
    for name in ("--batch", "--gpus", "--process", "--processes", "--core"):
        worker.add_argument(name, type=int, help=argparse.SUPPRESS)
    worker.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    worker.add_argument("--kind", help=argparse.SUPPRESS)
    worker.add_argument("--address", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        args.replicas = args.replicas[0]
        work(args)
        return

    gpus = count_gpus()
    place = f"{gpus} GPUs" if gpus else f"{os.cpu_count()} cores, no GPU"
    machine = f"{platform.machine()}, {place}, {time.strftime('%Y-%m-%d')}"
    size = "×".join(map(str, args.size))
    print(f"PSPNet-{args.variant}, {size}, float32; {machine}")
    print(f"{'':19}    s per  {'efficiency at the':38}  all-reduce of gradients,")
    print(
        f"{'':5}replicas × each    step  {'same batch':18}  {'same for each':18}  one statistic, ms"
    )
    options = ["--variant", args.variant, "--size", *map(str, args.size)]
    results = {"machine": machine, "size": args.size, "variant": args.variant, "rows": []}
    failed = results["failed"] = {}
    for kind in args.kinds:
        try:
            rows = measure(kind, args.replicas, gpus, args, options)
        except RuntimeError as error:
            failed[kind] = str(error)
            print(f"{kind:10}  cannot run: {error}", flush=True)
            continue
        show(rows)
        results["rows"] += rows
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
