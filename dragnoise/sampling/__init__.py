"""DDIM inversion and denoising, and pictures from a prompt."""
