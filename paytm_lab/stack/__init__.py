"""The real servers, natively on this machine: four MySQL, Redis, ZooKeeper, Kafka, Cassandra.

servers      what a stack consists of: names, ports, commands, readiness
mysql redis zookeeper kafka cassandra   one server each: its settings as constants, its command
programs     finds the programs on this machine; what is missing, with remedies
fetch        gets what is missing (fetch.sh)
control      Stack: start, stop, kill, freeze, look at single servers
up down      the whole of it
"""
