"""Fusions: from the tokens of a window, of any of its modalities, to what the window is and what that rests on.

Three that learn, behind one interface (base), over the same tokens:

concat          each modality pooled to one vector, the vectors joined by a small head: fewest parameters, quickest
hierarchical    transformer layers a modality, which exchange a few bottleneck tokens layer by layer: the only one in
                which tokens of one modality change what is read from those of another; dearest by far
attention       learned latents attend over all tokens at once; runs in the kernels of kernels/fusion on a GPU

and one that doesn't, noisy_or, which joins two pretrained classifiers label by label. What all of them promise: a
modality that is absent is exactly one that never was, shares are exact Shapley values, clips don't see one another.
Of use to all three: pool (many tokens to one vector, moments in time) and timeline (modalities side by side on a grid
of 40 ms, for sequences).
"""
