"""ray job submit --working-dir . -- python jobs/recommend.py --config jobs/configs/recommend.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("recommend")
