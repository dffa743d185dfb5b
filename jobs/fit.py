"""ray job submit --working-dir . -- python jobs/fit.py --config jobs/configs/fit.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("fit")
