"""`python -m distill_at_scale.cli` is `das`."""

from distill_at_scale.cli import main

if __name__ == "__main__":
    main()
