"""Makes the meta-dataset that Data-Genie learns from: many small datasets, each swept with the same methods.

    python jobs/meta_dataset.py --data ../shared/data --output FOLDER                 49 datasets, one after another
    python jobs/meta_dataset.py --output FOLDER --time-budget 30m                     generated ones, for half an hour
    ray job submit --working-dir . -- python jobs/meta_dataset.py --output s3://my-bucket/meta

Real logs (ml-100k.inter, ml-1m.parquet, amazon-beauty-5core.txt, amazon-toys-5core.txt, amazon-ratings.tsv,
yelp-ratings.tsv) are looked for in --data; without them their cuts are left out. FOLDER gets logs/, data/, sweeps/ and
trials.parquet. Finished sweeps are skipped. Then `python jobs/train_genie.py --sweeps FOLDER/sweeps/* --output GENIE`
trains a Data-Genie on it.
"""

from __future__ import annotations

import argparse
import sys

from distill_at_scale import signals
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.pipelines.workflows.meta_dataset import (
    BUDGETS,
    METHODS,
    MODELS,
    SEEDS,
    meta_dataset,
    prepare_corpus,
)
from distill_at_scale.settings import seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the real logs")
    parser.add_argument("--output", required=True, help="folder or storage URI for everything")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of datasets; default: all")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=METHODS)
    parser.add_argument("--budgets", type=lambda text: [float(b) for b in text.split(",")], default=BUDGETS)
    parser.add_argument("--models", type=lambda text: text.split(","), default=MODELS)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many")
    parser.add_argument("--time-budget", help="begin no dataset after so long, as 30m or 2h")
    parser.add_argument("--prepare-only", action="store_true", help="make the datasets, sweep none")
    parser.add_argument("--address", help="a Ray cluster; default: this machine")
    options = parser.parse_args()
    try:
        if options.prepare_only:
            for dataset in prepare_corpus(options.data, options.output, options.only):
                print(dataset)
            return 0
        trials = meta_dataset(
            options.data,
            options.output,
            options.only,
            options.methods,
            options.budgets,
            options.models,
            options.seeds,
            seconds(options.time_budget) if options.time_budget else None,
            options.address,
        )
    except DasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    print(f"{trials.height:,} trials of {trials['fingerprint'].n_unique()} datasets")
    return 0


if __name__ == "__main__":
    with signals.ending():
        sys.exit(main())
