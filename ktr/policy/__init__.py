"""What a policy is to the rest of ktr, and the families of models that are one."""
