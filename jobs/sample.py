"""ray job submit --working-dir . -- python jobs/sample.py --config jobs/configs/sample.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("sample")
