"""The stages of `prepare`."""
