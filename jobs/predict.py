"""ray job submit --working-dir . -- python jobs/predict.py --config jobs/configs/predict.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("predict")
