"""What holds at every edge of the house: documents that are true, walls between tenants, hostile input, secrets kept."""
