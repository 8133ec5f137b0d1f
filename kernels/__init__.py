"""Device kernels of the models, each beside its plain torch form."""
