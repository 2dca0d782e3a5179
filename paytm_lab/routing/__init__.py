"""User -> slot -> shard: stable hashes, the strategies one can compare, and the map the system runs on."""
