"""ray job submit --working-dir . -- python jobs/attribute.py --config jobs/configs/attribute.yaml"""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main("attribute")
