"""ray job submit --working-dir . -- python jobs/forecast.py --config jobs/configs/forecast.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("forecast")
