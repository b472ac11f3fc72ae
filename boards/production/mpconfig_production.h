// MicroPython v1.28.0, every production build: what stock firmware leaves open. docs/production.md.

// No REPL: nothing is read from UART or USB, and so there is no Ctrl-C either.
#define MICROPY_HW_ENABLE_UART_REPL         (0)
#define MICROPY_HW_ENABLE_USBDEV            (0) // with it USB CDC, and its reset into the bootloader
#define MICROPY_HW_USB_CDC                  (0)
#define MICROPY_HW_ESP_USB_SERIAL_JTAG      (0)

// The device answers no one's questions about names, and asks none.
#define MICROPY_HW_ENABLE_MDNS_RESPONDER    (0)
#define MICROPY_HW_ENABLE_MDNS_QUERIES      (0)

#define MICROPY_PY_BLUETOOTH                (0)
#define MICROPY_PY_ESPNOW                   (0)
#define MICROPY_PY_NETWORK_LAN              (0)
#define MICROPY_HW_ENABLE_SDCARD            (0)
