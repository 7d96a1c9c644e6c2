"""What a student minimises, and how it is taught."""
