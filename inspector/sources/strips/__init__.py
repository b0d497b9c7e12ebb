"""Line-scan cameras: strips of a web, from any source, are put together to frames that overlap."""
