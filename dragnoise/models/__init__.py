"""Models: loading, the U-Net cut at its bottleneck, text, memory and fingerprints."""
