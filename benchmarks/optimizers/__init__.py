"""The researcher's door of `optimizers`: the same models and the same jobs, ours and the peers'. Must not know: the cloud."""
