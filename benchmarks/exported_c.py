"""How long the exported C takes, T = 80 under `physical`, cold and from the plan of the cycle before.

    python benchmarks/exported_c.py [--horizon 80] [--repeats 3] [--cc cc]

Prints CPU milliseconds of a call for portable and for native flags; of the repeats the one with the lowest median
counts, since other processes can only slow it down.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import feasible

FLAGS = {
    "portable": ["-O2"],
    "native": ["-O2", "-march=native", "-ffp-contract=fast", "-fno-math-errno"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--horizon", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cc", default="cc")
    options = parser.parse_args()
    vehicle, limits = feasible.vehicles.nuplan_pacifica(), feasible.presets.physical()
    projector = feasible.Projector(vehicle, limits, horizon=options.horizon, dt=0.1)
    with tempfile.TemporaryDirectory() as place:
        folder = projector.export(Path(place) / "export", artefact=False) / "c"
        source = Path(__file__).with_suffix(".c")
        for name, flags in FLAGS.items():
            command = [options.cc, "-std=c99", *flags, f"-I{folder}", str(source), "projector.c", "programs.c", "-lm"]
            subprocess.run([*command, "-o", name], cwd=folder, check=True)
            runs = [json.loads(subprocess.check_output([folder / name])) for _ in range(options.repeats)]
            best = {
                drive: {
                    start: min((r[drive][start] for r in runs), key=lambda v: v["median"]) for start in runs[0][drive]
                }
                for drive in runs[0]
            }
            print(f"{options.cc} {' '.join(flags)}")
            for drive, starts in best.items():
                for start, v in starts.items():
                    print(
                        f"  {drive:7s} {start:5s} median {v['median']:.3f} ms, p90 {v['p90']:.3f} ms, "
                        f"{v['iterations']:.1f} iterations"
                    )


if __name__ == "__main__":
    main()
