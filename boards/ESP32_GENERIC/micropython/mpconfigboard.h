#define MICROPY_HW_BOARD_NAME               "ESP32_GENERIC, Gatehouse production"
#define MICROPY_HW_MCU_NAME                 "ESP32"

#include "../../production/mpconfig_production.h"
