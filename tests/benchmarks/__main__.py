"""All benchmarks, one after the other.

    python tests/benchmarks --json results --camvid path/of/CamVid

Each is a script that can be run alone; its table is printed, and what it measured is written to
`results/NAME.json`. On two idle cores it takes about an hour. What needs CamVid is left out
where there is none, and said so. Apart are `gpu.py`, which fills the minutes that there are on a
GPU, and `learning.py`, which trains for hours.
"""

import argparse
import subprocess
import sys
from pathlib import Path

# Name → arguments, of which CAMVID stands for the folder.
BENCHMARKS: dict[str, list[str]] = {
    "networks": [],
    "parts": [],
    "growth": [],
    "small_images": [],
    "first_command": [],
    "replicas": [],
    "pipeline": ["CAMVID"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", default="benchmark_results", help="folder for what was measured")
    parser.add_argument("--camvid", help="folder of CamVid")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    args = parser.parse_args()
    Path(args.json).mkdir(parents=True, exist_ok=True)
    failed = []
    for name in args.only:
        given = [args.camvid if one == "CAMVID" else one for one in BENCHMARKS[name]]
        print(f"\n=== {name}", flush=True)
        if None in given:
            print("Left out: it needs CamVid. Pass --camvid FOLDER.")
            continue
        script = Path(__file__).with_name(f"{name}.py")
        command = [sys.executable, script, *given, "--json", f"{args.json}/{name}.json"]
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
