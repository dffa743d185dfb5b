"""ray job submit --working-dir . -- python jobs/evaluate.py --config jobs/configs/evaluate.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("evaluate")
