#define MICROPY_HW_BOARD_NAME               "ESP32_GENERIC_C6, Gatehouse production"
#define MICROPY_HW_MCU_NAME                 "ESP32C6"

#include "../../production/mpconfig_production.h"
