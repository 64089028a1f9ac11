"""ROM images on this computer: where they lie, how one is made, and which one a name means."""
