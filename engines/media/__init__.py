"""The media process: sound of files in, files of sound out, away from the server. `client.Media` is the way in."""
