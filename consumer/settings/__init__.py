"""What the configuration says: options, checks across them, and a section for each part."""
