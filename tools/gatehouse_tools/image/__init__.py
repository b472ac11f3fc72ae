"""The flash image of a device: partition table, otadata, NVS, application partitions, LittleFS."""
