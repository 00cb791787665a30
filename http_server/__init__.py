"""What every HTTP front needs below its routes: connections and their limits, and the coding of bodies."""
