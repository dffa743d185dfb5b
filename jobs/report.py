"""ray job submit --working-dir . -- python jobs/report.py --config jobs/configs/report.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("report")
