"""The stages of `sample`."""
