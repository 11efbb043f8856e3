"""`scripts/simulate`: many seeds, or one and its whole trace."""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.cluster import Cluster, Result, run
from tests.simulation.planted import PLANTED


def _quiet(seed: int) -> Result:
    return run(seed, storms=False)


def main() -> int:
    """Exit code 1 if any seed breaks a promise."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", default="0..200", metavar="A..B", help="from A up to, not including, B")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--calm", action="store_true", help="no faults at all")
    parser.add_argument("--trace", type=int, metavar="SEED", help="one seed, every line of its trace")
    parser.add_argument("--stop", type=int, default=1, help="stop after so many failing seeds")
    parser.add_argument("--json", action="store_true", help="what was counted as one line of JSON, the last")
    parser.add_argument("--planted", action="store_true", help="leave out rule after rule: is it noticed?")
    asked = parser.parse_args()
    if asked.trace is not None:
        return _trace(asked.trace, storms=not asked.calm)
    if asked.planted:
        return _plant(asked.jobs)
    first, _, last = asked.seeds.partition("..")
    seeds = range(int(first), int(last))
    begun = time.perf_counter()
    count, steps, broken = 0, 0, 0
    faults: dict[str, int] = {}
    with ProcessPoolExecutor(asked.jobs) as pool:
        for result in pool.map(_quiet if asked.calm else run, seeds, chunksize=4):
            count += 1
            steps += result.steps
            for name, number in result.faults:
                faults[name] = faults.get(name, 0) + number
            if result.broken is not None:
                broken += 1
                tell(result)
                if broken >= asked.stop:
                    pool.shutdown(cancel_futures=True)
                    break
    seconds = time.perf_counter() - begun
    print(f"{count} seeds, {steps} steps, {seconds:.1f} s, {count / seconds:.1f} seeds/s, broken {broken}")
    print("faults: " + (", ".join(f"{name} {number}" for name, number in sorted(faults.items())) or "none"))
    if asked.json:
        told = {"seeds": asked.seeds, "count": count, "steps": steps, "broken": broken, "faults": faults}
        print(json.dumps(told))
    return 1 if broken else 0


def tell(result: Result) -> None:
    """The story of a failing seed."""
    for line in result.story:
        print(line[:300])
    print(f"seed {result.seed}: {result.broken} (at {result.seconds:.1f} s, step {result.steps})\n")


def _plant(jobs: int) -> int:
    """Exit code 1 if a rule that is left out is not noticed within its seeds."""
    with ProcessPoolExecutor(jobs) as pool:
        noticed = list(pool.map(_notice, range(len(PLANTED))))
    missed = [planted.rule for planted, seed in zip(PLANTED, noticed, strict=True) if seed is None]
    for planted, seed in zip(PLANTED, noticed, strict=True):
        print(f"{'missed' if seed is None else f'seed {seed}'}: {planted.rule}")
    print(json.dumps({"planted": len(PLANTED), "missed": missed}))
    return 1 if missed else 0


def _notice(number: int) -> int | None:
    """The first seed in which a planted fault breaks a promise."""
    planted = PLANTED[number]
    for seed in range(planted.seeds):
        broken = run(seed, planted.parts()).broken
        if broken is not None:
            return seed if planted.fails or not broken.startswith("no core fails") else None
    return None


def _trace(seed: int, *, storms: bool) -> int:
    cluster = Cluster(seed, storms=storms)
    result = cluster.run()
    for line in cluster.world.trace:
        print(str(line)[:600])
    print(cluster.config)
    print(
        f"seed {seed}: {result.broken} (at {result.seconds:.1f} s, step {result.steps}) {result.fingerprint}"
    )
    return 1 if result.broken else 0


if __name__ == "__main__":
    sys.exit(main())
