"""What a scenario may say: frozen, validated, and free of behaviour beyond validation."""
