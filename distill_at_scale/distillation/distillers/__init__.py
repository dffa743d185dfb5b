"""The distillers, a file each; which there are is in `registry`."""
