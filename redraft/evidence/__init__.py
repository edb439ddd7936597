"""What speaks for and against a draft beside the generator that wrote it, and the reflection that weighs it."""
