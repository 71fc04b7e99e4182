"""What production does to a server, and what it must make of it. `make faults` runs the long ones too."""
