"""Encoders, fusion and checkpoints: everything that knows the network, shared by training and serving.

Importing this package imports none of its modules: `models.weights` and `models.config` work with the standard
library alone; the others bring torch along when they are imported themselves.
"""
