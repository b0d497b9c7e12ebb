"""What runs the network on a device: one small interface, an engine per kind of device."""
