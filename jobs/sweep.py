"""ray job submit --working-dir . -- python jobs/sweep.py --config jobs/configs/sweep.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("sweep")
