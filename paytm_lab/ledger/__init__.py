"""The money: operations in, rows out.

Read in this order: operations, evaluate (with batch and rules_*), shard_writer, transfers.
"""
