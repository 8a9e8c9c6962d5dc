"""The verbs: what a user asks of Instep, as functions with the names of the commands. ``instep`` offers them."""
