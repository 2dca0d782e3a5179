"""Workloads: generated from a seed or read from a file, and what they do to shards on paper."""
