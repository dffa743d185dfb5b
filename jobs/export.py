"""ray job submit --working-dir . -- python jobs/export.py --data s3://my-bucket/distilled --output s3://my-bucket/log"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("export")
