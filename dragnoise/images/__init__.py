"""Pictures, masks and colour: what people give, read and checked."""
