"""The money: operations in, rows out. Read in this order: operations, evaluate, shard_writer, transfers."""
