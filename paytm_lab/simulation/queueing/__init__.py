"""Queues: what load does to waiting, by formula, by simulation, and fitted to the lab itself.

``theory`` holds closed forms, ``lindley`` the queues that run on whole arrays, ``group_commit`` the
model of our own writers (batches, two legs), ``events`` what needs an event at a time (time-outs,
retries, breakers, outages), ``estimates`` how sure a figure is, ``checks`` theory against
simulation, ``measured`` and ``fitting`` the real lab under load and the model of it.
"""
