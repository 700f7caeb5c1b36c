"""What a session can be looked at with: feature maps, quick looks, and what its model can reproduce at all."""
