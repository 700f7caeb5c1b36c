"""Reading, validation and conversion of pictures, masks and colours."""
