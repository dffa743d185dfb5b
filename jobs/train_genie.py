"""Trains a Data-Genie on the sweeps of a meta-dataset; commands of the one that comes with the package:

python jobs/meta_dataset.py --data ../shared/data --output META
python jobs/train_genie.py --sweeps META/sweeps/* --judge --overwrite --output distill_at_scale/genie/trained
ray job submit --working-dir . -- python jobs/train_genie.py --config jobs/configs/train_genie.yaml
"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("genie train")
