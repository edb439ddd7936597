"""From the journals of exposures and events to what may be concluded."""
