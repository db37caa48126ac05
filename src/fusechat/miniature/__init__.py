"""The miniature world: four tiny experts, a weak target, a reward model, and their prompts."""
