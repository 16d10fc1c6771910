"""The course's ideas, one file each: pure decisions without driver or framework."""
