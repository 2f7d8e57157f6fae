"""What people look at: records become parts, and each renderer shows the same parts."""
