"""Runs command lines in one process and one Ray session: python every_verb.py LINES.json

Reads a list of lists of words; writes ``== exit CODE: das …`` after each. Ray and torch are loaded once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import distill_at_scale as das
from distill_at_scale import cli


def main() -> int:
    before = dict(os.environ)
    das.connect(num_cpus=2)
    import ray

    # Threads of the user's own process are the user's business; a worker has one.
    for name in ("POLARS_MAX_THREADS", "OMP_WAIT_POLICY"):
        mine, theirs = os.environ.get(name), ray.get(ray.remote(os.getenv).remote(name))
        print(f"== {name}: {'untouched' if mine == before.get(name) else mine}, workers {theirs}", flush=True)
    # Loading it takes longer than many a verb.
    print(f"== Ray Data: {'loaded' if 'ray.data' in sys.modules else 'not loaded'}", flush=True)
    address = ray.get_runtime_context().gcs_address
    for words in json.loads(Path(sys.argv[1]).read_text()):
        words = [word.replace("ADDRESS", address) for word in words]
        sys.argv = ["das", *words]
        try:
            cli.main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code or 0
        print(f"== exit {code}: das {' '.join(words)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
