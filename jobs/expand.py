"""ray job submit --working-dir . -- python jobs/expand.py --config jobs/configs/expand.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("expand")
