"""ray job submit --working-dir . -- python jobs/distill.py --config jobs/configs/distill.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("distill")
