"""Other weights for a large store: how long `longreward rejudge` takes, and how much memory.

    PYTHONPATH=.:benchmarks python benchmarks/rejudge.py [--answers 100000] [--folder DIR]

The store is that of pairs.py. Exit code 1 over 60 s or 1 GiB, or where a judge was asked.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pairs
import yaml

MOST_SECONDS, MOST_GIB = 60, 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rejudge-", dir=options.folder) as name:
        size = pairs.make(Path(name), options.answers)
        # Nobody listens there: a call would be an error.
        judge = {"kind": "openai", "model": "judge", "base_url": "http://127.0.0.1:9/v1"}
        (Path(name) / "config.yaml").write_text(yaml.safe_dump({"reward": {"name": "longreward", "judge": judge}}))
        command = [sys.executable, "-m", "longreward", "rejudge", name, "--out", f"{name}/again.jsonl"]
        started = time.monotonic()
        done = subprocess.run([*command, "weights={helpfulness: 1, completeness: 3}"], check=False)
        seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"{options.answers:,} answers, {size / 1e9:.2f} GB: {seconds:.1f} s (bar {MOST_SECONDS}), peak {peak:.2f} GiB"
    )
    return int(done.returncode != 0 or seconds > MOST_SECONDS or peak > MOST_GIB)


if __name__ == "__main__":
    sys.exit(main())
