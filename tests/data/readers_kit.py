"""Plans and reads a whole small log: what the readers' tests share."""

import polars as pl

from distill_at_scale.data.readers import Fragment, LogOptions, LogSchema, plan_log, read_fragment
from distill_at_scale.data.row_validation import empty_bad


def read_all(schema, fragments):
    """Good rows (times in ms) and bad ones of all fragments, in order, after a JSON round trip of what travels."""
    schema = LogSchema.model_validate_json(schema.model_dump_json())
    goods, bads = [pl.DataFrame(schema=schema.good_schema())], [empty_bad()]
    for fragment in fragments:
        for batch in read_fragment(Fragment.model_validate_json(fragment.model_dump_json()), schema):
            assert batch.rows == batch.good.height + batch.bad.height
            goods.append(batch.good)
            bads.append(batch.bad)
    good = pl.concat(goods)
    if "timestamp" in good:  # for short expectations; test_cleaning looks at what lies below
        good = good.with_columns(pl.col("timestamp") // 1_000_000)
    return good, pl.concat(bads)


def read_log(*paths, want_split=False, **options):
    """Good and bad rows of the log at ``paths``."""
    schema, fragments, _ = plan_log(LogOptions(input=[str(path) for path in paths], **options), want_split)
    return read_all(schema, fragments)


def read_noticed(*paths, **options):
    """Good and bad rows, and what planning noticed as one text."""
    schema, fragments, estimate = plan_log(LogOptions(input=[str(path) for path in paths], **options))
    good, bad = read_all(schema, fragments)
    return good, bad, "\n".join(map(str, estimate.noticed))
