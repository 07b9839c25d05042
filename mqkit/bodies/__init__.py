"""What the codec works with: content types, schemas, exact numbers, and explained errors."""
