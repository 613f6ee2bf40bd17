"""A bundle over whole collections: the rows and the audio of a million files, each once, whatever dies on the way."""
