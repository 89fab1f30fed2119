"""Other engines for comparison, from Debian packages unpacked into build/peers: nothing is installed, no service of the machine is started or touched."""
