"""How a network is fitted: a step, an attempt, on one machine or several. `training.supervised` is the story."""
