"""From a raw log to a Dataset, one restartable part at a time; `pipelines/prepare.py` strings the parts together.

fragments  a piece of the log → its good rows, dealt into buckets by a hash of the user
buckets    one bucket of every fragment → sorted, de-duplicated rows of whole users
core       which items and users have enough rows (iterated k-core)
shards     numbered, split, written
"""
