"""The pages for people: the list of models, and one page for each model."""
