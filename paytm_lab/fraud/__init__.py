"""Fraud: pure rules, a scorer that counts velocity, and the consumer that scores what was posted."""
