"""Functions of numpy alone that several frameworks' code brings along: read as text, never imported by Instep."""
