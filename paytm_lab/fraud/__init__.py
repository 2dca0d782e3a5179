"""Fraud: pure rules, a scorer that counts velocity, and a consumer that scores what was posted."""
