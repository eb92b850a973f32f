"""Where weights come from: files, sources, published networks."""
