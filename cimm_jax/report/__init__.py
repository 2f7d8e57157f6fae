"""What people look at: tables, pictures, results in words."""
