"""How a network is fitted: a step, an attempt, one machine or several; `training.supervised` is the story."""
