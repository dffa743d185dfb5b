"""`python -m distill_at_scale` and the `das` command; signal handlers are installed before anything large is
imported."""

from __future__ import annotations

from distill_at_scale import signals


def main() -> None:
    """Runs the command line."""
    try:
        with signals.ending():
            from distill_at_scale import cli

            cli.main()
    finally:
        signals.ignored()


if __name__ == "__main__":
    main()
