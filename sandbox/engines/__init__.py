"""The walls a slot can stand behind."""
