"""Parts of the codec: content types, exact decimals, losses in JSON, validation errors."""
