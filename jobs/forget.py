"""ray job submit --working-dir . -- python jobs/forget.py --config jobs/configs/forget.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("forget")
