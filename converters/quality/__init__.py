"""What an artefact loses that people notice: enhanced speech and decisions beside those of the float32 artefact."""
