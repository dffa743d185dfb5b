"""ray job submit --working-dir . -- python jobs/prepare.py --config jobs/configs/prepare.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("prepare")
