"""Pretraining: encoders and fusion learn from clips that nobody labelled, before a task is learned from few that
somebody did. Three ways, alike from outside (models.learning.pretrain.method); `loop` runs them and leaves a
checkpoint that recipes `start` from; `effect` measures what that is worth to a task."""
