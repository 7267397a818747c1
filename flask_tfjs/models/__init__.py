"""Where models live: names, directories, files, digests."""
