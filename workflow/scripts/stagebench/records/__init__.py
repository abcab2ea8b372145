"""What stages leave behind: files written atomically, and a typed record beside each artifact."""
