"""Evidence -> facts -> rules -> guards -> plan: pure, but for the questions that it asks."""
