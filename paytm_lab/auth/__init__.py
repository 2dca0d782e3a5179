"""The auth service: who somebody is. Credentials lie with the account, sessions in the cache."""
