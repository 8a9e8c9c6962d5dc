"""Parts of a file as files of their own, and the search for the smallest part that shows a fault."""
