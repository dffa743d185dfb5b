"""ray job submit --working-dir . -- python jobs/tune.py --config jobs/configs/tune.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("tune")
