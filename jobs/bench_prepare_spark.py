"""What `das prepare --split leave_2` does, in PySpark: a script for the Python that `bench_prepare.py --spark` names.

    python -m venv SPARK && SPARK/bin/pip install pyspark numpy
    python jobs/bench_prepare.py --rows 20e6 --spark SPARK/bin/python

Reads the log, leaves out rows without ids or time, keeps the last row of each user and item, drops users with fewer
than three rows, numbers users and items, holds out each user's last two rows and writes one Parquet file a shard, users
and times in order. Users are shuffled once: every window and sort after that is within its partition. Prints the counts
as JSON; not part of the service, which does not use Spark.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    from pyspark.sql import SparkSession, Window
    from pyspark.sql import functions as F

    log, output, shards = sys.argv[1], sys.argv[2], int(sys.argv[3])
    start = time.monotonic()
    spark = (
        SparkSession.builder.master(f"local[{os.cpu_count()}]")
        .config("spark.driver.memory", "8g")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", str(shards))
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.local.dir", output + "-spill")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    up = time.monotonic()
    rows = spark.read.parquet(log).where("user_id is not null and item_id is not null and timestamp > 0")
    of_pair = Window.partitionBy("user_id", "item_id").orderBy(F.desc("timestamp"), F.desc("rating"))
    newest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), F.xxhash64("user_id", "item_id"))
    kept = (
        rows.repartition(shards, "user_id")
        .withColumn("again", F.row_number().over(of_pair))
        .where("again = 1")
        .withColumn("age", F.row_number().over(newest))
        .withColumn("n", F.count("*").over(Window.partitionBy("user_id")))
        .where("n >= 3")
        .withColumn("shard", F.spark_partition_id())
        .persist()
    )
    # Tables of users and items are small enough to be sent to every task, so that the rows stay where they are.
    users = kept.select("shard", "user_id").distinct()
    users = users.withColumn("user", F.row_number().over(Window.orderBy("shard", "user_id")) - 1).persist()
    items = kept.select("item_id").distinct()
    items = items.withColumn("item", F.row_number().over(Window.orderBy("item_id")) - 1).persist()
    n_users, n_items = users.count(), items.count()
    split = F.when(F.col("age") == 1, 2).when(F.col("age") == 2, 1).otherwise(0).cast("byte")
    (
        kept.join(F.broadcast(items), "item_id")
        .join(F.broadcast(users.drop("shard")), "user_id")
        .select(
            "user",
            F.col("item").cast("int"),
            "rating",
            (F.col("timestamp") * 1000).alias("timestamp"),
            split.alias("split"),
        )
        .sortWithinPartitions("user", "timestamp")
        .write.parquet(output)
    )
    wall = time.monotonic() - start
    n_rows = spark.read.parquet(output).count()
    found = {"rows_kept": n_rows, "users": n_users, "items": n_items, "wall_s": wall, "start_s": up - start}
    print(json.dumps({key: round(value, 2) for key, value in found.items()}))
    spark.stop()


if __name__ == "__main__":
    main()
