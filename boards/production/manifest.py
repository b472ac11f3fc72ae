# What a production build freezes (MicroPython's manifest language): the core, and boot.py and main.py, which then come
# before any of these names in the file system. Of MicroPython's own modules only what the device's code imports, and
# what starts the file system; webrepl, mip, espnow and upysh are not there to be imported.
freeze("$(PORT_DIR)/modules", ("_boot.py", "flashbdev.py", "inisetup.py"))
include("$(MPY_DIR)/extmod/asyncio")

require("dht")
require("ds18x20")
require("onewire")
require("umqtt.simple")

package("gatehouse", base_path="$(BOARD_DIR)/../../../lib", opt=3)
module("boot.py", base_path="$(BOARD_DIR)/../../..", opt=3)
module("main.py", base_path="$(BOARD_DIR)/../../..", opt=3)
