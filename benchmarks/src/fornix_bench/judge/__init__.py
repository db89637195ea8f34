"""A judge that is not ours: a head simulated by PyPI `trxscan`; nothing is trained on it."""
