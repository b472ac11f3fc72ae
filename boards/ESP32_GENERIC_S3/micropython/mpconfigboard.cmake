# MicroPython v1.28.0: make BOARD_DIR=.../boards/ESP32_GENERIC_S3/micropython (docs/production.md). Not built here.
set(IDF_TARGET esp32s3)
set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/manifest.py)
set(MICROPY_PY_TINYUSB OFF) # USB is off: mpconfig_production.h

# ESP-IDF looks for the partition table from MicroPython's folder: it is told where this one is.
file(WRITE ${CMAKE_BINARY_DIR}/sdkconfig.place
    "CONFIG_PARTITION_TABLE_CUSTOM_FILENAME=\"${MICROPY_BOARD_DIR}/partitions.csv\"\n")

set(SDKCONFIG_DEFAULTS
    boards/sdkconfig.base
    ${MICROPY_BOARD_DIR}/../../production/sdkconfig.production
    ${MICROPY_BOARD_DIR}/sdkconfig.board
    ${CMAKE_BINARY_DIR}/sdkconfig.place
)
