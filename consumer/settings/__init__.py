"""The configuration: options, checks across them, and the settings of each part."""
