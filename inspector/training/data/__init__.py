"""Good frames: found, surveyed, cut into tiles and spoilt on purpose; what training notes of them."""
