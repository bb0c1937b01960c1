"""Network definitions: arrays in, arrays out; no files, no configuration."""
