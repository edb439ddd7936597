"""Two runs compared on live or simulated users: who gets which, what came of it, and what may be said."""
