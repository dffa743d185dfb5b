"""ray job submit --working-dir . -- python jobs/compare.py --config jobs/configs/compare.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("compare")
