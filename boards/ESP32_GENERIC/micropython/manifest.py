include("$(BOARD_DIR)/../../production/manifest.py")
