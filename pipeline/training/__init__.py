"""Views, models, and the one loop that trains them."""
