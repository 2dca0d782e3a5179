"""Workloads: generated from a seed or read from a file, what they do to shards on paper; queues and
the capacity that a load needs.
"""
