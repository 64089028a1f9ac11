"""ROM images on this computer: where they are, how one is made, which one a name means."""
