"""What is built from several verbs, without being a verb of the command line."""
