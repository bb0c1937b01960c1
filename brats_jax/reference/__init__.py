"""What the paper prints: its tables and quoted results as data, and where they disagree."""
