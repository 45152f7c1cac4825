"""A study: a grid of methods, rewards, data and seeds as a list of runs, each trained and measured in the same way."""
