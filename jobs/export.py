"""ray job submit --working-dir . -- python jobs/export.py --data s3://my-bucket/data --format hf --output s3://my-bucket/hub"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("export")
