"""Fraud models made offline: features, training, evaluation. The live scorer never imports it."""
