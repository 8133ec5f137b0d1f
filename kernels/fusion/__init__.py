"""Attention over the tokens of three modalities, split by modality: what was seen, heard and said becomes labels.

`naive` is the definition. `absorbed` is its arithmetic after the constants are multiplied out, in plain torch. `fused`
is that in Triton, and `launch` sizes and starts it. `op` registers it with torch: what a caller needs is there.
README.md beside them has the maths, and the operations and bytes counted.
"""
