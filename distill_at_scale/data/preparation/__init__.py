"""Preparation: a raw log becomes a Dataset in restartable stages, which `pipelines/prepare.py` connects.

fragments  validates a piece of the log and partitions its good rows into buckets by a hash of the user
exchange   plans how rows get from fragments to buckets; dealt merges and reads them
buckets    collects one bucket of every fragment into sorted, de-duplicated rows of whole users
kcore      determines the items and users with enough rows (iterated k-core)
shards     numbers, splits and writes the rows
"""
